"""torchvision's segmentation models: FCN as a whole, of the others the backbone."""

import pytest
import torch
import torchvision
from torch import nn

from ccnet.build import build_model
from ccnet.config import compose_config
from ccnet.errors import CheckpointError, ConfigError
from ccnet.importers import torchvision_segmentation
from ccnet.importers.translation import translated
from ccnet.models.segmentor import Segmentor
from tests.importers.foreign_files import State, source


def model_of(state: State, device: str = "cpu") -> Segmentor:
    """Our network, filled."""
    foreign = torchvision_segmentation.read(source(state), None)
    with torch.device(device):
        model = build_model(compose_config(foreign.overrides), foreign.num_classes, pretrained=False)
    ours = translated(foreign.source, foreign.names, model)
    if device == "cpu":
        model.load_state_dict({**model.state_dict(), **ours})
    return model


def network(name: str, aux: bool = True) -> nn.Module:
    """torchvision's, without weights."""
    more = {"aux_loss": True} if aux else {}
    return getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None, num_classes=21, **more)


def test_fcn_answers_as_at_torchvision() -> None:
    """Oracle: torchvision's own model, main and auxiliary, before the upsampling, from an image in 0..1."""
    torch.manual_seed(0)
    theirs = network("fcn_resnet50").eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
    ours, image = model_of(theirs.state_dict()).eval(), torch.rand(1, 3, 49, 66)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        features = theirs.backbone((image - mean) / std)
        main, aux = theirs.classifier(features["out"]), theirs.aux_classifier(features["aux"])
        torch.testing.assert_close(ours(255 * image).logits, main, rtol=1e-3, atol=1e-4 * float(main.abs().max()))
        own = ours.auxiliary_head(ours.backbone(ours.preprocess(255 * image)))[0]
        torch.testing.assert_close(own, aux, rtol=1e-3, atol=1e-4 * float(aux.abs().max()))
    assert not ours.align_corners


@pytest.mark.parametrize("aux", [True, False])
def test_fcn_of_another_depth(aux: bool) -> None:
    """Oracle: the network that the file was made from: every tensor fits."""
    with torch.device("meta"):
        theirs = network("fcn_resnet101", aux)
    model = model_of(theirs.state_dict(), "meta")
    assert len(model.backbone.layer3) == 23
    assert (model.auxiliary_head is not None) == aux


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("deeplabv3_resnet50", "resnet50"), ("deeplabv3_resnet101", "resnet101"),
     ("deeplabv3_mobilenet_v3_large", "mobilenet_v3_large"), ("lraspp_mobilenet_v3_large", "mobilenet_v3_large")],
)  # fmt: skip
def test_of_other_models_the_backbone_is_left(name: str, architecture: str) -> None:
    """Oracle: the classification network of torchvision without its classifier, name by name."""
    with torch.device("meta"):
        theirs = network(name, aux="deeplab" in name)
        plain = getattr(torchvision.models, architecture)().state_dict()
    state = theirs.state_dict()
    found, tensors, left_out = torchvision_segmentation.backbone_of(source(state))
    assert not torchvision_segmentation.is_fcn(source(state))
    assert found == architecture
    expected = {key: value.shape for key, value in plain.items() if not key.startswith(("fc.", "classifier."))}
    assert {key: value.shape for key, value in tensors.items()} == expected
    assert {key.split(".")[0] for key in left_out} <= {"classifier", "aux_classifier"}
    assert len(left_out) + len(tensors) == len(state)


def test_what_does_not_fit() -> None:
    """Oracle: the names; a recurrence has no effect on a head without attention."""
    with torch.device("meta"):
        state = network("deeplabv3_resnet50").state_dict()
    del state["backbone.bn1.bias"]
    with pytest.raises(CheckpointError, match=r"unexpected backbone\.extra; missing backbone\.bn1\.bias"):
        torchvision_segmentation.backbone_of(source({**state, "backbone.extra": torch.ones(1)}))
    with pytest.raises(ConfigError, match="--recurrence has no effect"):
        torchvision_segmentation.read(source(state), 2)
