"""Polaris-53K (training): free-form LaTeX answers."""

from balanced_agg.data.dataset import Dataset, boxed_row

DATASET = Dataset(
    name="polaris",
    about="Polaris-Dataset-53K, training: free-form LaTeX answers",
    data_source="polaris",
    source="POLARIS-Project/Polaris-Dataset-53K",
    split="train",
    files="*.jsonl",
    convert=boxed_row,
    aliases=("polaris",),
)
