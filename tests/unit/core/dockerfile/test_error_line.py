from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.dockerfile.error_line import LONGEST_STEP, place

TEXT = """\
# syntax
FROM base AS one
RUN make \\
    # why
    all
FROM scratch
COPY  --from=one   a  b
RUN echo $X
"""
LONG = "x" * 300


@pytest.mark.parametrize(
    ("text", "output", "said"),
    [
        (
            TEXT,
            (
                "[1/2] STEP 2/2: RUN make     all",
                "cc: no",
                'Error: building at STEP "RUN make all": exit status 2',
            ),
            "Dockerfile:3: RUN make all: exit status 2",
        ),
        (
            TEXT,
            ('Error: building at STEP "RUN make all": while running runtime: exit status 2',),
            "Dockerfile:3: RUN make all: exit status 2",
        ),
        (
            TEXT,
            (
                "STEP 2/3: COPY  --from=one   a  b",
                'Error: building at STEP "COPY --from=one a b": stat: "/a": no such file',
            ),
            'Dockerfile:7: COPY --from=one a b: stat: "/a": no such file',
        ),
        (
            TEXT,
            ('Error: building at STEP "RUN echo 7": exit status 1',),
            "Dockerfile: RUN echo 7: exit status 1",
        ),
        (
            "FROM scratch\nFORM x\n",
            (
                "STEP 2/3: FORM x",
                'Error: building at STEP "FORM ": Build error: Unknown instruction: "FORM" &imagebuilder',
            ),
            "Dockerfile:2: unknown instruction 'FORM', did you mean FROM?",
        ),
        (
            "\nFORM scratch\n",
            ("Error: no FROM statement found",),
            "Dockerfile:2: unknown instruction 'FORM', did you mean FROM?",
        ),
        ("XYZZY\n", ("Error: no FROM statement found",), "Dockerfile:1: unknown instruction 'XYZZY'"),
        (
            "FROM a\nENV A\n",
            ("Error: parsing main Dockerfile: /x: ENV must have two arguments",),
            "Dockerfile: parsing main Dockerfile: /x: ENV must have two arguments",
        ),
        (
            f"FROM a\nRUN {LONG}\n",
            (f'Error: building at STEP "RUN {LONG}": exit status 1',),
            f"Dockerfile:2: RUN {'x' * (LONGEST_STEP - 5)}…: exit status 1",
        ),
        (TEXT, ("killed",), ""),
        (TEXT, (), ""),
    ],
)
def test_a_failure_has_its_line(text: str, output: tuple[str, ...], said: str) -> None:
    """The line on which the instruction begins, the instruction, and what the builder says of it."""
    assert place(text, output) == said


@given(text=st.text(max_size=200), output=st.lists(st.text(max_size=80), max_size=5))
def test_no_words_break_it(text: str, output: list[str]) -> None:
    """The Dockerfile and the output are somebody else's."""
    assert isinstance(place(text, output), str)
