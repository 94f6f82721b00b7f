"""Training steps as CUDA graphs: launching the kernels of a small network takes longer than running them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["GraphedStep", "make_capturable"]

_EAGER_STEPS = 3  # before capture, since libraries make their plans and optimisers their state in the first steps

Step = Callable[[Tensor, Tensor], Tensor]


def make_capturable(optimizer: torch.optim.Optimizer) -> bool:
    """Make an optimiser's step capturable by a CUDA graph, for which its state must be on the device.

    Returns: Whether the optimiser supports this; if not, it is left unchanged.
    """
    if "capturable" not in optimizer.defaults:
        return False
    for settings in (optimizer.defaults, *optimizer.param_groups):
        settings["capturable"] = True
    return True


class GraphedStep:
    """A training step that is captured as a CUDA graph and replayed, after a few eager steps for each shape of images.

    Args:
        step: Function of images and targets that returns the loss. It must reset the gradients to None, so that they
            are allocated by the graph. Anything else that changes between steps must be in tensors that persist.
        optimizer: A capturable optimiser; its learning rates become tensors.
        model: The network whose gradients the step computes.
    """

    def __init__(self, step: Step, optimizer: torch.optim.Optimizer, model: nn.Module):
        self._step, self._optimizer, self._model = step, optimizer, model
        device = next(model.parameters()).device
        self._rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self._stream = torch.cuda.Stream(device)
        self._shape: torch.Size | None = None
        self._eager = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._images = self._target = self._loss = torch.empty(0)

    def __call__(self, images: Tensor, target: Tensor) -> Tensor:
        """Run a step and return its loss, a scalar on the device."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            if group["lr"] is not rate:  # the scheduler sets plain numbers
                group["lr"] = rate.fill_(group["lr"])
        if images.shape != self._shape:
            self._shape, self._eager, self._graph = images.shape, 0, None
        if self._graph is None and self._eager < _EAGER_STEPS:
            self._eager += 1
            return self._run_eagerly(images, target)
        if self._graph is None:
            self._graph = self._capture(images, target)
        self._images.copy_(images)
        self._target.copy_(target)
        self._graph.replay()
        return self._loss.clone()

    def _run_eagerly(self, images: Tensor, target: Tensor) -> Tensor:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            loss = self._step(images, target)
        torch.cuda.current_stream().wait_stream(self._stream)
        return loss

    def _capture(self, images: Tensor, target: Tensor) -> torch.cuda.CUDAGraph:
        self._images, self._target = images.clone(), target.clone()
        self._model.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        # on its own stream: graphs captured on the same stream share its workspace for matrix products, and concurrent
        # trainings would overwrite each other's
        with torch.cuda.graph(graph, stream=self._stream):
            self._loss = self._step(self._images, self._target)
        return graph
