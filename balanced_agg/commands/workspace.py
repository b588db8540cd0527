"""`balanced-agg workspace`: a saved view of a wandb project whose runs are grouped by aggregation."""

from typing import Any

from balanced_agg.commands.plot_style import STYLES
from balanced_agg.commands.terminal import errors_in_one_line, messages, print_json
from balanced_agg.loss.rules import AGGREGATIONS, MODE_KEY
from balanced_agg.runs.wandb_log import one_line

CHECK = "log in with `wandb login` (or export WANDB_API_KEY), and check the network and ENTITY/PROJECT"


def of_each_aggregation(measure: str) -> list[str]:
    return [f"aggregation/{name}/{measure}" for name in AGGREGATIONS]


# Section -> its panels, as the workspace shows them from top to bottom: title -> the logged keys that it draws over
# steps, or a regular expression that chooses them.
SECTIONS: dict[str, dict[str, list[str] | str]] = {
    "Accuracy": {"Validation accuracy of each benchmark, mean@k": "^val-core/.+/(acc|reward)/mean@[0-9]+$"},
    "Training": {
        "Reward": ["critic/score/mean"],
        "Entropy of the policy": ["actor/entropy"],
        "Gradient norm, before clipping": ["actor/grad_norm"],
        "Share of optimizer steps that were clipped": ["aggregation/clipped_steps"],
        "Response length, tokens": ["response_length/mean"],
    },
    "Lengths and signs": {
        "Spread of lengths in a group (coefficient of variation)": ["aggregation/within_group_length_cv"],
        "Length gap over the batch, > 0: positive ones are longer": ["aggregation/length_gap"],
        "Length gap in mixed groups": ["aggregation/length_gap_within_group"],
        "Length by sign, tokens": ["aggregation/positive_length", "aggregation/negative_length"],
        "Share of groups with both signs": ["aggregation/mixed_groups"],
        "Share of groups cut into several optimizer steps": ["aggregation/cut_groups"],
        "Share of the gradient on positive responses, lowest and highest of the optimizer steps": [
            "aggregation/step_positive_share_min",
            "aggregation/step_positive_share_max",
        ],
    },
    "What each aggregation would do": {
        "Share of the gradient on positive responses": of_each_aggregation("positive_share"),
        "Drift: on-policy loss value": of_each_aggregation("drift"),
        "Token weight, longest quarter over shortest": of_each_aggregation("long_token_weight"),
        "The same within one sign of a group": of_each_aggregation("long_token_weight_within_sign"),
        "Effective number of sequences": of_each_aggregation("effective_sequences"),
    },
    "Speed": {
        "Seconds a step": ["timing_s/step"],
        "Seconds of a step by part": ["timing_s/gen", "timing_s/old_log_prob", "timing_s/update_actor"],
        "Tokens a second and GPU": ["perf/throughput"],
    },
}


def build(entity: str, project: str, name: str) -> Any:
    """The workspace as a `wandb_workspaces` object; reads neither credentials nor the network.

    Runs of one aggregation are drawn as their mean and a band from lowest to highest, in the colours of `balanced-agg
    compare`. The x axis is wandb's Step, verl's step number: the validation before training has no
    training/global_step. ModuleNotFoundError without wandb-workspaces.
    """
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces
    from wandb_workspaces.expr import Config

    def line_plot(title: str, drawn: list[str] | str) -> reports.LinePlot:
        return reports.LinePlot(
            title=title,
            **({"metric_regex": drawn} if isinstance(drawn, str) else {"y": drawn}),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            max_runs_to_show=100,
        )

    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            workspaces.Section(name=title, panels=[line_plot(*panel) for panel in panels.items()], is_open=True)
            for title, panels in SECTIONS.items()
        ],
        settings=workspaces.WorkspaceSettings(x_axis="Step", max_runs=100),
        runset_settings=workspaces.RunsetSettings(
            groupby=[Config(MODE_KEY)],  # verl gives wandb the whole config
            group_colors={mode: style.colour for mode, style in STYLES.items()},
        ),
    )


def specification(workspace: Any) -> dict[str, Any]:
    """What is saved, as wandb's own keys."""
    view = workspace._to_model()  # the library's one way from its objects to what it sends
    return {
        "entity": view.entity,
        "project": view.project,
        "name": view.display_name,
        "spec": view.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def run(path: str, name: str, dry_run: bool) -> int:
    """Save the workspace and print its URL, or print its specification; the exit code."""
    entity, _, project = path.partition("/")
    with errors_in_one_line("workspace"):
        if not entity or not project or "/" in project:
            raise ValueError(f"{path!r} is no ENTITY/PROJECT, such as my-team/balanced_agg")
    workspace = build(entity, project, name)
    if dry_run:
        print_json(specification(workspace))
        return 0
    try:
        print(save(workspace))
    except Exception as error:  # wandb raises whatever its transport does; a traceback would show no more
        messages.print(f"balanced-agg workspace: {path} was not saved: {one_line(error)}; {CHECK}")
        return 1
    return 0


def save(workspace: Any) -> str:
    """Send it to wandb; its URL. Never asks for a key: PermissionError if none is there."""
    import wandb

    # A user of offline runs has WANDB_MODE=offline exported; and wandb's own messages would double ours.
    wandb.setup(wandb.Settings(mode="online", silent=True))
    with messages.status("talking to wandb"):
        if not wandb.login(prompt=False):
            raise PermissionError("no wandb key is configured")
        return workspace.save().url
