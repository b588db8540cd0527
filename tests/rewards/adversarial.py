r"""Answers that have made graders hang, crash, fill the memory or run code. Seeded; the same list every time."""

import random

LONG = 100_000

_PLAIN = [
    "", " ", "\n", "\0", "\0" * 50, "$", "$$", r"\(", r"\[", "{", "}", "}{", "()", "[]", r"\{\}", ",", ",,,,", "=",
    "==", "x=", "=x", "^", "_", "^^", "__", "1^", "^1", "1_", "\\", "\\\\", r"\frac", r"\frac{", r"\frac{}{}",
    r"\frac{1}{0}", r"\frac{0}{0}", r"0^{-1}", r"0^0", r"\sqrt", r"\sqrt{}", r"\sqrt[0]{5}", r"\log 0", r"\log_1 5",
    r"\tan 90^\circ", r"\infty-\infty", r"\frac{\infty}{\infty}", "nan", "NaN", "inf", "-inf", "1e999999999",
    "1e-999999999", "0x10", "1__0", "%", "100%%", r"\%", r"\text{}", r"\text{", r"\text{\text{\text{}}}",
    r"\begin{pmatrix}", r"\end{pmatrix}", r"\begin{pmatrix}\end{pmatrix}", r"\begin{pmatrix} & & \\ & \end{pmatrix}",
    r"\begin{cases} 1 \\ 2 \end{cases}", r"\pm", r"\pm\pm\pm 1", r"\cup", r"\cup \cup", "(1,2", "1,2)", "(1,(2,(3",
    "[1;2;3", "1/0", "1/0/0", "....", "1.2.3", "--1", "+-+-1", "1+", "*", "a" * 300, "x y z w " * 40, "if x then y",
    "True", "None", "null", "<script>", "' OR 1=1 --",
]  # fmt: skip

# What an eval of the answer would run. `MARK` is replaced by a path that must not come into being.
INJECTIONS = [
    "__import__('os').system('touch MARK')",
    "exec(\"open('MARK', 'w')\")",
    "open('MARK','w').write('x')",
    "(lambda: __import__('pathlib').Path('MARK').touch())()",
    "[c for c in ().__class__.__base__.__subclasses__()]",
    "1+__import__('subprocess').getoutput('touch MARK').__len__()",
    r"\text{__import__('os').system('touch MARK')}",
    "x.__class__.__mro__[1].__subclasses__()",
    r"\operatorname{__import__}(os)",
    "1); import os; os.system('touch MARK'); (1",
    r"\input{/etc/passwd}",
    r"\write18{touch MARK}",
    r"$(touch MARK)",
    "`touch MARK`",
]

_HUGE = [
    "9^{9^{9^{9}}}", "9^{9^{9}}", "9**9**9**9", "2^{2^{2^{2^{2^{2}}}}}", "10^{10^{10}}", "10^{-10^{10}}", "1e400",
    "1e401", "(10^{1000})!", "100000!", "1000000!", "((9!)!)!", "9!!!!!!!", r"\binom{10^{9}}{5\cdot10^{8}}",
    r"\sum_{n=1}^{10^{9}} n^{n}", r"\prod_{n=1}^{10^{8}} n", r"\int_0^{\infty} e^{-x^{x}} dx",
    r"\int \sin(\cos(\tan(x^{x}))) dx", r"\lim_{x\to 0} x^{x^{x}}", r"\sum_{n=1}^{\infty} \frac{1}{n^{\pi}+\sin n}",
    r"\sin(10^{10^{10}})", r"\log(\log(\log(9^{9^{9}})))", r"e^{e^{e^{e^{e^{5}}}}}", r"\sqrt[10^{9}]{2}",
    r"2^{10^{7}}+1", r"(1+\sqrt{2})^{100000}", r"(x+y+z)^{500}", r"(x+1)^{10^{6}}", r"\pi^{\pi^{\pi^{\pi}}}",
    r"\frac{1}{10^{10^{9}}}", r"7^{7^{7^{7}}} \bmod 10", r"\lfloor \pi^{100000} \rfloor", r"\gcd(10^{500}!, 7)",
    r"\zeta(10^{-30})", r"\begin{vmatrix} x^{99} & y^{99} \\ 9^{9^{9}} & z^{99} \end{vmatrix}",
    r"x^{x^{x^{x^{x^{x}}}}}=9^{9^{9}}", "3^{4^{5^{6^{7}}}} = x",
]  # fmt: skip

_UNICODE = [
    "\ud800", "\udfff\ud800", "\U0001f600" * 50, "１２３", "½", "²³", "−5", "∞", "∑∏∫", "é́́́́", "\u202e5",
    "\u200b5\u200b", "٣", "Ⅷ", "\x1b[31m5", "５．４", "\ufeff5", "答案", "x̂", "\x7f", "\x01\x02\x03", "π²", "≈3", "√2",
    "√", "3√", "a\u0301" * 200, "\u2028", "五",
]  # fmt: skip


def _long() -> list[str]:
    return [
        "9" * LONG, "-" * LONG, "(" * LONG, "{" * LONG, "[" * LONG, "}" * LONG, " " * LONG, "\n" * LONG, "\\" * LONG,
        "$" * LONG, "1," * (LONG // 2), "1+" * (LONG // 2) + "1", "x" * LONG, "^{x" * (LONG // 3),
        r"\frac{1}{" * (LONG // 9), r"\sqrt{" * (LONG // 6), r"\boxed{" * (LONG // 7), r"\boxed{1}," * (LONG // 10),
        r"\boxed" * (LONG // 6), r"\text{a}" * (LONG // 8), r"\pm 1" * (LONG // 5),
        r"\begin{pmatrix}" * (LONG // 15), "answer is " * (LONG // 10), "answer:" * (LONG // 7),
        "####" * (LONG // 4), "answer " * (LONG // 7), r"\(" * (LONG // 2), "<think>" * (LONG // 7), "\0" * LONG,
        "0." + "3" * LONG, "1e" + "9" * LONG, "a," * (LONG // 2), "," * LONG, " and " * (LONG // 5),
        "1 " * (LONG // 2), "5 apples " * (LONG // 9), "=" * LONG, "x=" * (LONG // 2), "*" * LONG, "." * LONG,
        r"\boxed{5}" + " " * LONG, " " * LONG + r"\boxed{5}", "%" * LONG, "\t" * 1_900 + "5", "and " * 450,
        r"\left(" * 300 + r"\right)" * 300,
    ]  # fmt: skip


def _nested(depth: int) -> list[str]:
    return [
        "{" * depth + "1" + "}" * depth,
        "(" * depth + "1" + ")" * depth,
        "(1," * depth + "1" + ")" * depth,
        r"\{" * depth + "1" + r"\}" * depth,
        r"\frac{1}{1+" * depth + "1" + "}" * depth,
        r"\sqrt{1+" * depth + "1" + "}" * depth,
        "2^{" * depth + "2" + "}" * depth,
        "x_{" * depth + "1" + "}" * depth,
        r"\sin(" * depth + "x" + ")" * depth,
        "1" + "!" * depth,
        r"\boxed{" * depth + "1" + "}" * depth,
        "-" * depth + "1",
        "|" * depth + "x" + "|" * depth,
    ]


def _token_soup(rng: random.Random, count: int) -> list[str]:
    tokens = [
                  r"\frac", r"\sqrt", "{", "}", "(", ")", "^", "_", "x", "y", "1", "9", "+", "-", "=", ",", "!",
                  r"\pm", r"\pi", "[", "]", "|", r"\text{", r"\cup", r"\infty", "%", r"\le", "<", "e", "i", r"\log",
                  r"\sin", r"\begin{pmatrix}", "&", r"\\", ".", " ",
              ]  # fmt: skip
    return ["".join(rng.choices(tokens, k=rng.randint(3, 60))) for _ in range(count)]


def adversarial_answers(seed: int = 0) -> list[str]:
    """More than 200 distinct answers, from an empty one to 100 000 characters."""
    rng = random.Random(seed)
    nested = [text for depth in (3, 40, 300) for text in _nested(depth)]
    return list(dict.fromkeys(_PLAIN + INJECTIONS + _HUGE + _UNICODE + _long() + nested + _token_soup(rng, 60)))


def adversarial_responses(seed: int = 0) -> list[str]:
    r"""Each answer in a box, in a box that never closes, or without one, in turn."""
    shapes = (
        r"So it is $\boxed{%s}$.",
        r"So it is $\boxed{%s",
        "So the answer is %s",
        "Answer: %s",
        "%s",
        r"\boxed{%s}",
    )
    return [shapes[index % len(shapes)].replace("%s", answer) for index, answer in enumerate(adversarial_answers(seed))]
