"""MATH-500 (benchmark): LaTeX answers."""

from balanced_agg.data.dataset import Dataset, boxed_row

DATASET = Dataset(
    name="math_500",
    about="MATH-500, benchmark: LaTeX answers",
    data_source="math_500",
    source="HuggingFaceH4/MATH-500",
    split="test",
    files="*.jsonl",
    convert=boxed_row,
    k=4,
    problems=(500,),
    aliases=("math500",),
)
