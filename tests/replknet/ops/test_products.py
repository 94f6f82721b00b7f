"""Linear layers by oneDNN give what PyTorch's own give, to inputs, weights and second derivatives."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

import replknet
from replknet.ops import products
from replknet.ops.products import OneDNNLinear, linear, use_onednn
from replknet.optimize import use_stock_convolutions

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN, which these products need"
)


@pytest.fixture(autouse=True)
def always_faster(monkeypatch):
    """Whatever the processor: oneDNN multiplies, however small the matrices are."""
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", True)
    monkeypatch.setattr(products, "_FEW", 0)
    monkeypatch.setattr(products, "_FEW_WITH_GRADIENT", 0)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def calls_of(module, x):
    """The number of calls of oneDNN's product in a forward pass."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        module(x)
    return sum(event.count for event in profile.key_averages() if event.key == "mkldnn::_linear_pointwise")


def layer(inputs=24, outputs=40, *, bias=True):
    torch.manual_seed(1)
    own = nn.Linear(inputs, outputs, bias=bias)
    swapped = use_onednn(nn.Sequential(copy.deepcopy(own)))[0]
    assert type(swapped) is OneDNNLinear
    return own, swapped


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (1, 24), (7, 24), (2, 7, 24), (2, 3, 5, 24)])
def test_outputs_and_gradients_are_those_of_pytorch(shape, bias):
    own, swapped = layer(bias=bias)
    x = numbers(*shape)
    assert calls_of(swapped, x) == 1
    found = []
    for module in (own, swapped):
        image = x.clone().requires_grad_()
        y = module(image)
        grad = numbers(*y.shape, seed=2)
        found.append((y, *torch.autograd.grad(y, (image, *module.parameters()), grad)))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_gradients_agree_with_finite_differences_of_a_float64_layer():
    own, swapped = layer()
    x, grad = numbers(5, 24), numbers(5, 40, seed=2)
    image = x.clone().requires_grad_()
    (got,) = torch.autograd.grad(swapped(image), image, grad)
    expected = grad.double() @ own.weight.double()
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_those_of_pytorch():
    own, swapped = layer()
    x = numbers(5, 24)
    found = []
    for module in (own, swapped):
        image = x.clone().requires_grad_()
        (first,) = torch.autograd.grad((module(image) ** 3).sum(), image, create_graph=True)
        found.append(torch.autograd.grad((first**2).sum(), (image, module.weight)))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-2)


def test_gradients_in_another_order_in_memory_and_expanded_ones():
    own, swapped = layer()
    x = numbers(6, 24)
    for grad in (numbers(40, 6, seed=2).t(), torch.ones(1, 1).expand(6, 40)):
        image = x.clone().requires_grad_()
        (got,) = torch.autograd.grad(swapped(image), image, grad)
        torch.testing.assert_close(got, grad @ own.weight, rtol=1e-5, atol=1e-5)


def test_weights_may_be_views_with_any_strides():
    x = numbers(6, 24)
    weight = numbers(24, 40, seed=1).t()
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "x",
    [numbers(24, 6).t(), numbers(6, 24).double(), numbers(6, 24).bfloat16(), numbers(0, 24)],
    ids=["transposed", "float64", "bfloat16", "empty"],
)
def test_other_inputs_run_as_before(x):
    own, swapped = layer()
    own, swapped = own.to(x.dtype), swapped.to(x.dtype)
    if x.numel():
        assert calls_of(swapped, x) == 0
    assert torch.equal(swapped(x), own(x))


def test_where_onednn_is_switched_off_pytorch_multiplies():
    own, swapped = layer()
    x = numbers(6, 24)
    with torch.backends.mkldnn.flags(enabled=False):
        assert calls_of(swapped, x) == 0
        assert torch.equal(swapped(x), own(x))


def test_wrong_shapes_fail_as_in_pytorch():
    own, swapped = layer()
    with pytest.raises(RuntimeError) as expected:
        own(numbers(6, 25))
    with pytest.raises(RuntimeError, match=str(expected.value).split("(")[0].strip()):
        swapped(numbers(6, 25))


def test_autocast_and_transformations_run_as_in_pytorch():
    own, swapped = layer()
    x, tangent = numbers(6, 24), numbers(6, 24, seed=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(swapped(x), own(x))
        assert swapped(x).dtype == torch.bfloat16
    assert torch.equal(torch.vmap(swapped)(x[:, None]), torch.vmap(own)(x[:, None]))
    for module in (own, swapped):
        _, forward = torch.func.jvp(module, (x,), (tangent,))
        torch.testing.assert_close(forward, F.linear(tangent, own.weight))
    with torch.autograd.forward_ad.dual_level():
        dual = swapped(torch.autograd.forward_ad.make_dual(x, tangent))
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, F.linear(tangent, own.weight))


def test_traced_and_exported_networks_contain_pytorchs_own_layer():
    _, swapped = layer()
    x = numbers(6, 24)
    assert "mkldnn" not in str(torch.jit.trace(swapped, x).graph)
    exported = torch.export.export(nn.Sequential(swapped), (x,))
    assert "aten.linear" in str(exported.graph)


def test_only_plain_linear_layers_are_changed_and_changed_back(monkeypatch):
    class Own(nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    model = nn.Sequential(nn.Linear(4, 4), Own(4, 4), nn.Conv2d(3, 3, 1)).eval()
    before = [type(module) for module in model]
    names = list(model.state_dict())
    replknet.optimize(model)
    assert [type(module) for module in model] == [OneDNNLinear, Own, nn.Conv2d]
    assert list(model.state_dict()) == names
    use_stock_convolutions(model)
    assert [type(module) for module in model] == before
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", False)
    assert [type(module) for module in replknet.optimize(model)] == before


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mixer_s32_224"])
def test_maps_of_transformers_are_those_of_the_network_as_it_is(name):
    from erf import contribution_map

    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    x = numbers(1, 3, 224, 224)
    assert not any(type(module) is OneDNNLinear for module in model.modules())
    fast, plain = contribution_map(model, x), contribution_map(model, x, plain=True)
    assert not any(type(module) is OneDNNLinear for module in model.modules())
    assert 0 < (fast - plain).norm() / plain.norm() < 1e-5


BIASES = {
    "every second number": lambda: numbers(80)[::2],
    "a column": lambda: numbers(40, 3)[:, 1],
    "expanded": lambda: numbers(1).expand(40),
    "a single number": lambda: numbers(1)[0],
    "one number": lambda: numbers(1),
    "a row": lambda: numbers(1, 40),
}


@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
def test_biases_of_any_strides_and_shape(bias):
    own, swapped = layer()
    own.bias = nn.Parameter(bias())
    swapped.bias = nn.Parameter(bias())
    x = numbers(6, 24)
    torch.testing.assert_close(swapped(x), own(x), rtol=1e-5, atol=1e-5)
    found = [torch.autograd.grad(module(x).sum(), module.bias)[0] for module in (own, swapped)]
    torch.testing.assert_close(*found)
    if bias().shape == (40,):
        torch.testing.assert_close(linear(x, own.weight, bias()), own(x), rtol=1e-5, atol=1e-5)
    else:
        with pytest.raises(ValueError, match="a linear layer of an input, a weight and a bias of the shapes"):
            linear(x, own.weight, bias())


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
def test_weights_of_another_type_or_order_run_as_in_pytorch():
    class Twice(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            result = super().__torch_function__(func, types, args, kwargs or {})
            return 2 * result if func is F.linear else result

    own, swapped = layer(bias=False)
    x = numbers(6, 24)
    weight = own.weight.detach()
    with torch.no_grad():
        doubled = torch.func.functional_call(swapped, {"weight": weight.as_subclass(Twice)}, (x,))
        torch.testing.assert_close(doubled.as_subclass(torch.Tensor), 2 * own(x))
        sparse = torch.func.functional_call(swapped, {"weight": weight.to_sparse_csr()}, (x,))
        torch.testing.assert_close(sparse, own(x), rtol=1e-5, atol=1e-5)
        overlapping = weight.as_strided((40, 24), (1, 1))
        found = torch.func.functional_call(swapped, {"weight": overlapping}, (x,))
        torch.testing.assert_close(found, F.linear(x, overlapping))


def test_function_modes_see_pytorchs_own_layer():
    class Watch(torch.overrides.TorchFunctionMode):
        def __init__(self):
            super().__init__()
            self.seen = []

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.seen.append(func)
            return func(*args, **(kwargs or {}))

    _, swapped = layer()
    with Watch() as watch:
        swapped(numbers(6, 24))
    assert F.linear in watch.seen


def test_a_weight_may_change_before_its_own_gradient_is_taken():
    _, swapped = layer()
    x = numbers(6, 24)
    y = swapped(x)
    with torch.no_grad():
        swapped.weight.mul_(2)
    (got,) = torch.autograd.grad(y.sum(), swapped.weight)
    torch.testing.assert_close(got, x.sum(0).expand(40, 24))


@pytest.mark.filterwarnings("ignore:.torch.jit.script.")
def test_optimised_networks_can_be_scripted():
    model = replknet.optimize(timm.create_model("test_vit", pretrained=False).eval())
    scripted = torch.jit.script(model)
    x = numbers(1, 3, 160, 160)
    torch.testing.assert_close(scripted(x), model(x), rtol=1e-4, atol=1e-5)
