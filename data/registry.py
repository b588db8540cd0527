"""All data sets by name, and the groups of them that a command line may name."""

from balanced_agg.data import chain_sum, gsm8k, maths
from balanced_agg.data.dataset import Dataset
from balanced_agg.data.livecodebench import LIVECODEBENCH

TRAINING = [maths.DAPO17K, maths.POLARIS]
BENCHMARKS = [
    maths.MATH_500,
    maths.AIME_2024,
    maths.AIME_2025,
    maths.OLYMPIADBENCH,
    maths.MINERVA,
    LIVECODEBENCH,
]
GENERATED = [chain_sum.TRAIN, chain_sum.VALIDATION]

GSM8K = [gsm8k.TRAIN, gsm8k.TEST]

CHOICES: dict[str, list[Dataset]] = {dataset.name: [dataset] for dataset in TRAINING + BENCHMARKS + GSM8K}
CHOICES["gsm8k"] = GSM8K
CHOICES["chain_sum"] = GENERATED
CHOICES["benchmarks"] = BENCHMARKS
CHOICES["all"] = TRAINING + BENCHMARKS + GSM8K + GENERATED


def about(choice: str) -> str:
    datasets = CHOICES[choice]
    if choice == datasets[0].name:
        return datasets[0].about
    return f"{len(datasets)} data sets: {', '.join(dataset.name for dataset in datasets)}"


def chosen(names: list[str]) -> list[Dataset]:
    """The data sets of these names and groups, each once. ValueError for an unknown name."""
    unknown = [name for name in names if name not in CHOICES]
    if unknown:
        raise ValueError(f"unknown data set {', '.join(unknown)}")
    return list({dataset.name: dataset for name in names for dataset in CHOICES[name]}.values())
