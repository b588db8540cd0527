"""AIME 2025, both exams (benchmark): answers from 0 to 999."""

from balanced_agg.data.dataset import Dataset, boxed_row

DATASET = Dataset(
    name="aime_2025",
    about="AIME 2025, benchmark: integers from 0 to 999",
    data_source="aime_2025",
    source="math-ai/aime25",
    split="test",
    convert=boxed_row,
    k=32,
    problems=(30,),
    aliases=("aime2025", "aime25"),
)
