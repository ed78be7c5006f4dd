"""Which remedies work with which methods, objectives and other remedies: what cannot work, and what to use instead."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

from schemas.spec.methods.base import MethodSettings
from schemas.spec.methods.union import Method
from schemas.spec.objectives import OBJECTIVES
from schemas.spec.remedies import RemedySettings

if TYPE_CHECKING:
    from schemas.spec.run import RunSpec

METHODS: tuple[type[MethodSettings], ...] = get_args(get_args(Method)[0])


def remedy_problems(spec: "RunSpec") -> Iterator[str]:
    """What is wrong with the remedies of a specification: `key: what; fix`."""
    kinds = [remedy.kind for remedy in spec.remedies]
    for index, remedy in enumerate(spec.remedies):
        at = f"remedies.{index}"
        if remedy.kind in kinds[:index]:
            yield f"{at}: {remedy.kind} is named twice; keep one"
            continue
        if spec.from_scratch:
            yield f"{at}: a model from scratch has nothing to forget; remove remedies"
        if remedy.objectives is not None and not getattr(spec.objective, remedy.objectives):
            works = [kind for kind, one in OBJECTIVES.items() if getattr(one, remedy.objectives)]
            yield (
                f"{at}: {remedy.kind} works with {' and '.join(works)}, not with"
                f" {spec.objective.kind}; use replay (mixture.replay_ratio)"
            )
        own = [f"{at}: {text}" for text in remedy.problems(spec, kinds[:index])]
        yield from _method_problems(spec.method, remedy, at)
        yield from own
        if (remedy.general_sample or remedy.development_sample) and not spec.has_general and not own:
            yield (
                f"{at}: {remedy.kind} needs general text; add replay sources, or self_replay"
                " (mixture.replay_ratio may be 0: then they are measured on, not trained on)"
            )


def refusal(
    remedy: type[RemedySettings] | RemedySettings, method: type[MethodSettings] | MethodSettings
) -> str | None:
    """Why a remedy cannot be computed for a method, `which ...`, or empty where others can; None if it can."""
    for capability, why in remedy.not_with.items():
        if getattr(method, capability):
            return why
    return None if remedy.updates is None or method.update in remedy.updates else ""


def _method_problems(method: MethodSettings, remedy: RemedySettings, at: str) -> Iterator[str]:
    why = refusal(remedy, method)
    if why:
        yield (
            f"{at}: {remedy.kind} cannot be computed for method '{method.kind}', which"
            f" {why}; use another method or another remedy (rootstock remedies lists them)"
        )
    elif why is not None:
        works = [one.model_fields["kind"].default for one in METHODS if refusal(remedy, one) is None]
        yield (
            f"{at}: {remedy.kind} cannot be computed for method '{method.kind}'; use one of"
            f" {', '.join(works)}, or another remedy (rootstock remedies lists them)"
        )
    elif remedy.updates is not None and method.odd_update is not None:
        yield (
            f"{at}: {remedy.kind} needs an update that is a product of two matrices and starts at zero;"
            f" {method.odd_update}"
        )
