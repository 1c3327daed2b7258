"""Which layer reads which, and receptive fields, against what NaNs in the image reach."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glassrun.look.layer_graph import INPUT, ReceptiveField, trace
from glassrun.models.cnn import CNN
from glassrun.models.convnext import ConvNeXt
from glassrun.models.lenet import LeNet
from glassrun.models.resnet import ResNet
from glassrun.models.vgg import VGG

SIDE = 64


class Functional(nn.Module):
    """A network whose poolings and sums are no modules, and whose layers are called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 5, stride=2)
        self.again = nn.Conv2d(3, 3, 3, padding=2, dilation=2)
        self.relu = nn.ReLU(inplace=True)
        self.classify = nn.Linear(3, 7)

    def forward(self, x):
        x = F.max_pool2d(self.relu(self.first(x)), 3, 2)
        x = x + self.again(self.relu(self.again(x)))
        return self.classify(F.avg_pool2d(x, 2).mean((2, 3)))


MODELS = {
    "cnn": lambda: CNN(1, SIDE, SIDE, 7, channels=(3, 5), kernel_size=5, hidden=11),
    "average-pooling": lambda: CNN(1, SIDE, SIDE, 7, channels=(3, 5), convolutions=1, pooling="average", hidden=11),
    "lenet": lambda: LeNet(1, SIDE, SIDE, 7),
    "vgg": lambda: VGG(1, SIDE, SIDE, 7, channels=(3, 5), convolutions=(1, 2), batch_norm=True, hidden=11),
    "resnet": lambda: ResNet(1, 7, stem_channels=3, channels=(3, 5), blocks=(1, 1)),
    "resnet-padding": lambda: ResNet(
        1, 7, stem="cifar", stem_channels=3, channels=(3, 5), blocks=(2, 1), shortcut="padding"
    ),
    "bottleneck": lambda: ResNet(
        1, 7, stem="cifar", stem_channels=3, block="bottleneck", channels=(3, 5), blocks=(1, 1)
    ),
    "convnext": lambda: ConvNeXt(1, SIDE, SIDE, 7, patch_size=2, channels=(3, 5), blocks=(1, 1)),
    "functional": Functional,
}


def made(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return MODELS[kind]().double().eval()


def leaves(model):
    parts = ((name, module) for name, module in model.named_modules() if not any(module.children()))
    return [name for name, module in parts if not isinstance(module, nn.Identity)]


@torch.no_grad()
def reached(model):
    """By call of a layer with maps: Bool[image row, height], whether a NaN in that row of the image gets there."""
    images = torch.zeros(SIDE, 1, SIDE, SIDE, dtype=torch.float64)
    images[range(SIDE), :, range(SIDE)] = torch.nan
    found = {}

    def hook_of(name):
        def hook(_module, _args, output):
            if output.ndim == 4:
                call = name if name not in found else f"{name}#2"
                found[call] = output[:, 0, :, output.shape[3] // 2].isnan()

        return hook

    for name in leaves(model):
        model.get_submodule(name).register_forward_hook(hook_of(name))
    model(images)
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_the_receptive_field_is_what_reaches_a_place(kind):
    model = made(kind)
    calls = trace(model, torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64), leaves(model))
    measured = reached(model)
    assert measured
    for name, rows in measured.items():
        field = calls[name].field
        assert int(rows[:, rows.shape[1] // 2].sum()) == field.size[0] == field.size[1] < SIDE, name
        middle = rows.shape[1] // 2
        first = [int(rows[:, place].nonzero()[0]) for place in (middle, middle + 1)]
        assert first[1] - first[0] == field.step[0], name
    assert calls["classify"].field.whole
    assert not any(calls[name].field.whole for name in measured)


def test_known_receptive_fields():
    # Araujo, Norris & Sim 2019, table 1, has 212 for VGG-16 before its linear layers. ResNet-18's is 435.
    vgg = VGG(3, 32, 32, 7, channels=(2, 2, 2, 2, 2), convolutions=(2, 2, 3, 3, 3), hidden=3).eval()
    calls = trace(vgg, torch.zeros(1, 3, 32, 32), leaves(vgg))
    assert [call.field.size for call in calls.values() if len(call.out_shape) == 4][-1] == (212, 212)
    resnet = ResNet(3, 7, stem_channels=2, channels=(2, 2, 2, 2)).eval()
    calls = trace(resnet, torch.zeros(1, 3, 64, 64), leaves(resnet))
    assert calls["stages.3.1.activation"].field == ReceptiveField((435, 435), (32, 32))


def test_a_residual_block_is_read_on_both_ways():
    model = made("resnet")
    calls = trace(model, torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64), leaves(model))
    first, second = "stages.0.0", "stages.1.0"
    assert calls["stem.0.convolution"].reads == (INPUT,)
    assert set(calls[f"{first}.activation"].reads) == {"stem.1", f"{first}.branch.1.norm"}
    # Where the shape changes, a projection stands in the shortcut.
    assert set(calls[f"{second}.activation"].reads) == {
        f"{second}.shortcut.norm",
        f"{second}.branch.1.norm",
    }
    assert calls[f"{second}.shortcut.convolution"].reads == (f"{first}.activation",)
    assert calls[f"{second}.branch.0.convolution"].in_shape == (1, 3, 16, 16)


def test_a_layer_that_is_called_twice_is_told_twice():
    model = made("functional")
    calls = trace(model, torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64), leaves(model))
    assert list(calls) == ["first", "relu", "again", "relu#2", "again#2", "classify"]
    assert calls["relu#2"].reads == ("again",)
    assert set(calls["classify"].reads) == {"relu", "again#2"}


def test_the_model_stays_as_it_was():
    model = made("cnn")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, torch.ones(1, 1, SIDE, SIDE, dtype=torch.float64), leaves(model))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_attention_and_a_gate_over_the_whole_image_see_all_of_it():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(1, 3, 3)
            self.second = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            x = self.first(x)
            return self.second(x * x.mean((2, 3), keepdim=True).sigmoid())

    calls = trace(Gated().eval(), torch.zeros(1, 1, 9, 9), ["first", "second"])
    assert calls["first"].field == ReceptiveField((3, 3))
    assert calls["second"].field.whole


def test_a_mean_over_channels_is_no_mean_over_places():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(1, 3, 3)
            self.second = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            x = self.first(x)
            return self.second(x - x.mean(1, keepdim=True) - x.sum(-3, keepdim=True))

    calls = trace(Normed().eval(), torch.zeros(1, 1, 9, 9), ["first", "second"])
    assert calls["second"].field == ReceptiveField((5, 5))
