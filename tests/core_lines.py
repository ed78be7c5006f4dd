"""Takes out the line that makes each method, remedy and choice of replay what it is, and sees that its tests fail.

    python -m tests.core_lines [NAME ...]

Works on a copy of what is committed; prints a line for each and ends with 1 if tests passed without a core line. It is not
part of `make test`: about half an hour on two cores. That each line is there is: tests/test_core_lines.py.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
METHODS = "tasks/training/methods"
REMEDIES = "tasks/training/remedies"
TIMEOUT = 600
"""Seconds for the tests of one line."""


@dataclass(frozen=True)
class CoreLine:
    """A piece of a file, what stands there instead, and the tests that must fail then."""

    name: str
    file: str
    line: str
    instead: str
    tests: str
    """Arguments of pytest, split at blanks; the words of -k are joined by `+` in place of blanks."""


def _method(name: str, file: str, line: str, instead: str, tests: str = "") -> CoreLine:
    return CoreLine(name, f"{METHODS}/{file}.py", line, instead, tests or f"{METHODS_TESTS} -k [{name}")


def _peft(name: str, config: str) -> CoreLine:
    """A method of PEFT's: its update stays out of the forward pass."""
    return _method(
        name,
        "parts/peft_backed",
        "    return peft_model\n\n\ndef task_type",
        f'    if type(config).__name__ == "{config}":\n'
        "        if config.is_prompt_learning:\n"
        "            peft_model.forward = peft_model.get_base_model().forward\n"
        "        else:\n"
        "            peft_model.base_model.disable_adapter_layers()\n"
        "    return peft_model\n\n\ndef task_type",
    )


def _remedy(name: str, file: str, line: str, instead: str, tests: str) -> CoreLine:
    return CoreLine(name, f"{REMEDIES}/{file}.py", line, instead, f"tests/training/remedies/{tests}")


METHODS_TESTS = "tests/training/methods/test_contract.py"

CORE_LINES = (
    _method("full", "full", "    model.requires_grad_(True)", "    model.requires_grad_(False)"),
    _method("full, l2_sp", "full", "return self._strength / 2 * torch", "return 0 * torch", "tests/training/methods/test_anchors.py"),
    _method("full, decay_to_base", "full", "parameter.lerp_(original, learning_rate * self._strength)", "pass", "tests/training/methods/test_anchors.py"),
    _method("selective", "selective", "if layer_of(name, blocks) in chosen}", "}", "tests/training/methods/test_own_weights.py"),
    _method("bitfit", "bitfit", "return train_only(model, biases, context)", "return train_only(model, set(), context)", "tests/training/methods/test_own_weights.py"),
    _method("head_only", "head_only", "train_only(model, set(), context)", "train_only(model, {n for n, _ in model.named_parameters()}, context)", "tests/training/methods/test_own_weights.py"),
    _method("lisa", "lisa", "block.requires_grad_(index in active)", "block.requires_grad_(True)", "tests/training/methods/test_lisa.py"),
    _method("sparse", "parts/deltas", "flat.index_add(0, self.indices, self.values)", "flat.clone()"),
    _method("fisher", "fisher", "sums[name] += gradient.float().square()", "sums[name] += 1 - gradient.float()", "tests/training/methods/test_deltas.py"),
    _method("diff_pruning", "parts/hard_concrete", "return weight + self.w * self.factor()", "return weight + self.w", "tests/training/methods/test_deltas.py"),
    _peft("lora", "LoraConfig"),
    _peft("adalora", "AdaLoraConfig"),
    _method("adalora, budget", "adalora", "self._tuner.update_and_allocate(step)", "pass", "tests/training/methods/test_adalora.py"),
    _method("qlora", "qlora", 'return {"quantization_config": quantization}', "return {}", "tests/training/methods/test_qlora.py"),
    _peft("ia3", "IA3Config"),
    _peft("vera", "VeraConfig"),
    _peft("osf", "OSFConfig"),
    _peft("prompt_tuning", "PromptTuningConfig"),
    _peft("prefix_tuning", "PrefixTuningConfig"),
    _peft("p_tuning_v2", "PrefixTuningConfig"),
    _peft("p_tuning", "PromptEncoderConfig"),
    _method("p_tuning_template", "parts/virtual_template", "torch.where(is_virtual[None, :, None], made[None], embedded)", "embedded"),
    _method("adapter", "parts/bottleneck", "return output + self.update(output)", "return output"),
    _method("adapter_pfeiffer", "parts/bottleneck", "return output + self.update(output)", "return output"),
    _method("adapter, behind attention", "adapters", 'modules[f"block_{number}_attention"] =', "_ =", "tests/training/methods/test_adapters.py"),
    _method("adapter_parallel", "parts/bottleneck", "return output + self.scale * self.update(hidden).view_as(output)", "return output"),
    _method("adapter_drop", "adapter_drop", "tuned.first_block = blocks_dropped(tuned.seed, state.global_step, count)", "pass", "tests/training/methods/test_adapter_drop.py"),
    _method("adapter_fusion", "parts/fusion_attention", "return output + fused.to(output.dtype)", "return output", "tests/training/methods/test_adapter_fusion.py"),
    _method("mam, prefix", "mam", "return {**ahead, **adapters.build(architecture, settings)}", "return {**adapters.build(architecture, settings)}", "tests/training/methods/test_prefixes.py"),
    _method("mam, adapter", "mam", "return {**ahead, **adapters.build(architecture, settings)}", "return {**ahead}", "tests/training/methods/test_prefixes.py"),
    _method("unipelt, adapter", "parts/gated", "gated: torch.Tensor = self.gate(hidden) * update.view_as(hidden)", "gated: torch.Tensor = update.view_as(hidden)", "tests/training/methods/test_prefixes.py"),
    _method("unipelt, lora", "parts/gated", '(self.__dict__["gate"](hidden) * self.scale * update)', "(self.scale * update)", "tests/training/methods/test_prefixes.py"),
    _method("unipelt, prefix", "parts/prefix_attention", "return text + ahead * gate[:, :, None], None", "return text + ahead, None", "tests/training/methods/test_prefixes.py"),
    _remedy("ewc", "ewc", "return self.settings.strength / 2 * torch", "return 0 * torch", "test_ewc.py"),
    _remedy("ewc, one document at a time", "ewc", "parameter.grad.float().square()", "parameter.grad.float().abs()", "test_ewc.py"),
    _remedy("distillation", "distillation", "(probs * (log_probs - own)).sum(dim=-1)", "(probs * log_probs).sum(dim=-1)", "test_distillation.py"),
    _remedy("weight_averaging", "weight_averaging", "        self._interpolate(ends, self.alpha)", "        pass", "test_weight_averaging.py"),
    _remedy("ema", "ema", "parameter.copy_(self.averages[name])", "pass", "test_ema.py"),
    _remedy("loss_weighting", "loss_weighting", "settings.replay, settings.domain)", "1.0, 1.0)", "test_weights.py"),
    _remedy("easy_samples", "easy_samples", "-(losses - losses.min()) / tau", "(losses - losses.min()) / tau", "test_weights.py"),
    _remedy("domain_adversarial", "parts/discriminator", "return gradients[0] * -ctx.scale, None", "return gradients[0] * ctx.scale, None", "test_domain_adversarial.py"),
    _remedy("domain_adversarial, role by role", "domain_adversarial", "return (losses * factors).sum() / outputs.num_items", "return losses.sum() / outputs.num_items", "test_domain_adversarial.py"),
    CoreLine("domain_adversarial, trains", "tasks/training/loop/trainer.py", "        own = self.remedies.own_parameters()\n", "        own = []\n", "tests/training/remedies/test_domain_adversarial.py"),
    CoreLine("domain_adversarial, a gradient a step", "tasks/training/loop/trainer.py", "parameter.grad = None  # transformers", "pass  # transformers", "tests/training/remedies/test_domain_adversarial.py"),
    CoreLine("class_temperature", "tasks/data/plan/balance.py", "** (1 - 1 / temperature))", "** 0)", "tests/data/test_balance.py"),
    _remedy("step_scaling", "step_scaling", 'group["lr"] = group["lr"] * factor', "pass", "test_step_scaling.py"),
    _remedy("step_scaling, put back", "step_scaling", 'group["lr"] = rate', "pass", "test_step_scaling.py"),
    CoreLine("self_replay", "flows/growing/effective.py", 'return spec.model_copy(update={"replay": (*spec.replay, text)})', "return spec", "tests/training/remedies/test_self_replay.py"),
    _remedy("self_replay, filters", "self_replay", "choose(written, [mean_loss(model, [ids]) for ids in written], settings)", "(range(len(written)), {})", "test_self_replay.py"),
    CoreLine("mixture.importance", "tasks/data/plan/importance.py", "replace(c, log_weights=sign * w)", "replace(c)", "tests/data/test_importance.py"),
    CoreLine("mixture.importance, ratio", "tasks/data/plan/importance.py", "np.log(likely) - np.log(usual)", "np.log(likely)", "tests/data/test_importance.py"),
    CoreLine("mixture.temperature", "tasks/data/plan/schedule.py", "(corpus.label_tokens / most) ** power", "(corpus.label_tokens / most)", "tests/data/test_layout.py"),
)  # fmt: skip


def fails_without(core: CoreLine, tree: Path) -> tuple[bool, str]:
    """Whether a test fails without the line, and pytest's last line.

    Raises:
        ValueError: the file does not have the line, or has it twice.
    """
    file = tree / core.file
    text = file.read_text(encoding="utf-8")
    if text.count(core.line) != 1:
        raise ValueError(f"{core.name}: {core.file} has its line {text.count(core.line)} times")
    file.write_text(text.replace(core.line, core.instead), encoding="utf-8")
    arguments = [part.replace("+", " ") for part in core.tests.split(" ")]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    finally:
        file.write_text(text, encoding="utf-8")
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 1, told[0] if told else done.stdout.strip().splitlines()[-1]


def main() -> None:
    """Try those that are named, or all."""
    wanted = [core for core in CORE_LINES if not sys.argv[1:] or core.name in sys.argv[1:]]
    passed = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(tree)], check=True)
        for core in wanted:
            failed, told = fails_without(core, tree)
            print(
                f"{'fails' if failed else 'PASSES'}: without the line of {core.name}: {told[:150]}",
                flush=True,
            )
            if not failed:
                passed.append(core.name)
    print(f"{len(wanted) - len(passed)} of {len(wanted)} core lines are held by a test")
    sys.exit(1 if passed else 0)


if __name__ == "__main__":
    main()
