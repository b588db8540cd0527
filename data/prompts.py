"""What a model is asked, in one place.

DAPO-Math-17k ships its prompts whole: "… The last line of your response should be of the form Answer: …". They
are kept, since its reward reads that line. All other maths, for training and for validation alike, asks for a
\\boxed{} answer in Polaris' words:

- one wording for all five maths benchmarks makes the recipes' tables comparable, whatever they trained on;
- most answers there are LaTeX, which a box delimits and a line of text does not;
- Qwen2.5-Math's own chat template asks for a box.

A policy trained on DAPO-Math-17k is thus validated on a prompt it was not trained on. If it answers in its own way
all the same, that counts: the maths grader reads a last line "Answer: 7" too.

LiveCodeBench has its benchmark's layout (a system line, then Question, Format and Answer sections, with the starter
code or an empty block); the sentences in it are ours.
"""

Messages = list[dict[str, str]]

CODE_SYSTEM = (
    "You are an expert Python programmer. For each programming problem, write a correct Python program that "
    "fulfils the specification and passes every test."
)
CODE_WITH_STARTER = "Complete the starter code below, and give the whole solution in one fenced block."
CODE_WITH_STDIN = (
    "Read the input from standard input and print the answer to standard output; do not run the examples "
    "yourself. Give the whole program in one fenced block, like this one."
)


def boxed(problem: str) -> Messages:
    """A maths problem, to be answered in a box."""
    content = f"{problem} Let's think step by step and output the final answer within \\boxed{{}}."
    return [{"role": "user", "content": content}]


def code(question: str, starter_code: str = "") -> Messages:
    """A programming problem: a function to complete, or without starter code a program from stdin to stdout."""
    task = CODE_WITH_STARTER if starter_code else CODE_WITH_STDIN
    block = f"```python\n{starter_code or '# your code here'}\n```"
    content = f"### Question:\n{question}\n\n### Format: {task}\n{block}\n\n### Answer: (one fenced block)\n\n"
    return [{"role": "system", "content": CODE_SYSTEM}, {"role": "user", "content": content}]
