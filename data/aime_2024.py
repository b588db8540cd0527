"""AIME 2024, both exams (benchmark): answers from 0 to 999."""

from balanced_agg.data.dataset import Dataset, boxed_row

DATASET = Dataset(
    name="aime_2024",
    about="AIME 2024, benchmark: integers from 0 to 999",
    data_source="aime_2024",
    source="Maxwell-Jia/AIME_2024",
    split="train",
    convert=boxed_row,
    k=32,
    problems=(30,),
    aliases=("aime2024", "aime24"),
)
