"""What is drawn at random in one child must not be what is drawn in the next."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def kept_from_ray() -> Iterator[None]:
    """While modules are imported: their actor classes have ids that Ray did not draw.

    Ray's core seeds the generator of its ids once, for the first id, and it can be seeded in no other way. All children
    of a process with such an id would draw the same ones: tasks of two actors for a third are then one to it, and it
    dies of that (``Check failed: erased == 1``).
    """
    from ray import actor

    drawn_by_ray = actor.ActorClassID

    class ActorClassID:
        @staticmethod
        def from_random() -> object:
            return drawn_by_ray(os.urandom(drawn_by_ray.size()))

    actor.ActorClassID = ActorClassID
    try:
        yield
    finally:
        actor.ActorClassID = drawn_by_ray


def children_draw_the_same() -> bool:
    """Whether Ray's core has drawn an id in this process."""
    return _drawn_in_a_child() == _drawn_in_a_child()


def _drawn_in_a_child() -> bytes:
    from ray import ObjectRef

    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writing, ObjectRef.from_random().binary())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        drawn = pipe.read()
    os.waitpid(pid, 0)
    return drawn


def seed_anew() -> None:
    """In a child: the generators that a fresh process seeds as it imports them. Python's own does this at a fork."""
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].seed()
