"""Is there a key for wandb?"""

from balanced_agg.plugin.checks.wandb_login import logged_in


def probe() -> dict[str, bool]:
    return {"logged_in": logged_in()}
