"""The parts of domain-adversarial training that know torch: gradient reversal, the discriminator, and the features."""

import math
from typing import Any

import torch
from torch.nn.functional import linear, relu

from schemas.errors import UserError
from tasks.training.models.heads import output_layers


class GradientReversal(torch.autograd.Function):
    """R(x) = x, dR/dx = -scale I (Ganin et al., 2016, equations 16 and 17; the scale is their lambda)."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, scale: float) -> torch.Tensor:
        """The features as they are."""
        ctx.scale = scale
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor, None]:
        """The gradient turned round."""
        return gradients[0] * -ctx.scale, None


def reverse(features: torch.Tensor, scale: float) -> torch.Tensor:
    """The same features; what comes back through them is multiplied by -scale."""
    reversed_: torch.Tensor = GradientReversal.apply(features, scale)
    return reversed_


def scale_at(progress: float, strength: float, gamma: float) -> float:
    """lambda_p = strength (2 / (1 + exp(-gamma p)) - 1), p from 0 to 1 (section 5.2.2; there the strength is 1)."""
    return strength * (2 / (1 + math.exp(-gamma * progress)) - 1)


class Discriminator(torch.nn.Module):
    """Tells replay from domain by features (B, H): one hidden layer, and a logit that is above 0 for replay.

    Its weights come from a random stream of its own, so that no other draw of the training moves.
    """

    def __init__(self, num_features: int, hidden_size: int, seed: int):
        super().__init__()
        random = torch.Generator().manual_seed(seed)

        def drawn(*shape: int, fan_in: int) -> torch.nn.Parameter:
            bound = 1 / math.sqrt(fan_in)  # as torch.nn.Linear
            return torch.nn.Parameter((torch.rand(shape, generator=random) * 2 - 1) * bound)

        self.hidden_weight = drawn(hidden_size, num_features, fan_in=num_features)
        self.hidden_bias = drawn(hidden_size, fan_in=num_features)
        self.output_weight = drawn(1, hidden_size, fan_in=hidden_size)
        self.output_bias = drawn(1, fan_in=hidden_size)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, H) -> (B,)."""
        hidden = relu(linear(features, self.hidden_weight, self.hidden_bias))
        return linear(hidden, self.output_weight, self.output_bias)[:, 0]


class Features:
    """What feeds the task's output layer in the latest forward pass, whatever the model's family.

    Encoders pool before that layer, causal models behind it: of theirs, the features are those of the position whose
    outputs become the logits.
    """

    def __init__(self, model: Any):
        """`model`: plain, or a PeftModel, which may hold the layer twice, the one it came with and the one in use."""
        plain = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.pad = plain.config.get_text_config().pad_token_id
        layers = [layer for _, layer in output_layers(plain)]
        self.size: int = layers[-1].in_features
        self.layers = layers
        self._seen: tuple[torch.Tensor, torch.Tensor] | None = None
        self._checked = False
        self._hooks = [layer.register_forward_hook(self._keep) for layer in layers]

    def _keep(self, layer: Any, arguments: tuple[torch.Tensor, ...], outputs: torch.Tensor) -> None:
        self._seen = arguments[0], outputs

    def take(self, input_ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The features (B, H) of documents (B, T) whose logits (B, L) were just computed; once per forward pass.

        Raises:
            UserError: they are not what these logits come from, as behind virtual tokens of a causal model.
        """
        assert self._seen is not None, "the output layer was not called"
        (features, outputs), self._seen = self._seen, None
        if features.dim() == 3:
            row = torch.arange(len(features), device=features.device)
            place = torch.arange(input_ids.shape[1], device=input_ids.device)
            last = (place * (input_ids != self.pad)).argmax(dim=-1).to(features.device)
            features, outputs = features[row, last], outputs[row, last]
        if not self._checked and not torch.equal(outputs.float(), logits.float()):
            raise UserError(
                "domain_adversarial cannot tell from which position this model reads a text's label",
                "remedies",
                "choose another method, such as lora or full, or an encoder as base",
            )
        self._checked = True
        return features

    def remove(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()
