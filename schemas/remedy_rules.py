"""Which remedies work with which methods, objectives and other remedies: what cannot work, and what to use instead."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from schemas.base_model import FromScratch
from schemas.methods_peft import Lora
from schemas.remedies import Distillation, DomainAdversarial, LossWeighting, RemedySettings, StepScaling

if TYPE_CHECKING:
    from schemas.run import RunSpec


def remedy_problems(spec: "RunSpec") -> Iterator[str]:
    """What is wrong with the remedies of a specification: `key: what; fix`."""
    kinds = [remedy.kind for remedy in spec.remedies]
    for index, remedy in enumerate(spec.remedies):
        at = f"remedies.{index}"
        if remedy.kind in kinds[:index]:
            yield f"{at}: {remedy.kind} is named twice; keep one"
            continue
        if isinstance(spec.base, FromScratch):
            yield f"{at}: a model from scratch has nothing to forget; remove remedies"
        if remedy.objectives is not None and spec.objective.kind not in remedy.objectives:
            yield (
                f"{at}: {remedy.kind} works with {' and '.join(remedy.objectives)}, not with"
                f" {spec.objective.kind}; use replay (mixture.replay_ratio)"
            )
        if remedy.kind == "ema" and "weight_averaging" in kinds[:index]:
            yield f"{at}: ema would overwrite what weight_averaging chose; name ema before it"
        yield from _method_problems(spec, remedy, at)
        if isinstance(remedy, Distillation) and remedy.on == "replay" and spec.mixture.replay_ratio == 0:
            yield (f"{at}: there is no replay to distil on; raise mixture.replay_ratio, or set on: all")
        if remedy.kind == "self_replay" and not spec.reads_replay:
            yield f"{at}: nothing reads the text that self_replay writes; raise mixture.replay_ratio"
        if isinstance(remedy, LossWeighting) and spec.mixture.replay_ratio == 0:
            yield f"{at}: there is no replay to weigh against the domain; raise mixture.replay_ratio"
        if isinstance(remedy, DomainAdversarial) and spec.mixture.replay_ratio == 0:
            yield f"{at}: there is no replay to tell from the domain; raise mixture.replay_ratio"
        if (
            isinstance(remedy, StepScaling)
            and remedy.target is None
            and spec.objective.kind != "language_modeling"
        ):
            yield (
                f"{at}: with {spec.objective.kind} the base's loss on general text is of another kind than that of a"
                " batch; set target (nats per label)"
            )
        elif (remedy.general_sample or remedy.development_sample) and not spec.has_general:
            yield (
                f"{at}: {remedy.kind} needs general text; add replay sources, or self_replay"
                " (mixture.replay_ratio may be 0: then they are measured on, not trained on)"
            )


def _method_problems(spec: "RunSpec", remedy: RemedySettings, at: str) -> Iterator[str]:
    method = spec.method
    if method.kind in remedy.not_methods:
        yield (
            f"{at}: {remedy.kind} cannot be computed for method '{method.kind}', which"
            f" {remedy.not_methods[method.kind]}; use another method or another remedy (rootstock remedies lists them)"
        )
    if remedy.methods is None:
        return
    if method.kind not in remedy.methods:
        yield (
            f"{at}: {remedy.kind} cannot be computed for method '{method.kind}'; use one of"
            f" {', '.join(remedy.methods)}, or another remedy (rootstock remedies lists them)"
        )
    elif isinstance(method, Lora) and (method.weight_decomposed or method.init != "default"):
        yield (
            f"{at}: {remedy.kind} needs an update that is a product of two matrices and starts at zero; set"
            " method.weight_decomposed and method.init back to their defaults"
        )
