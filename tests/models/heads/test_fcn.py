"""The fully convolutional head."""

import pytest
import torch
from torch.nn import functional as F

from ccnet.models.heads.fcn import FCNHead


@pytest.mark.parametrize("feature", [-1, -2, 0])
def test_convolution_and_classifier_on_the_chosen_feature(feature: int) -> None:
    """Oracle: torch.nn.functional on that feature; the others may be anything."""
    torch.manual_seed(0)
    channels = (4, 6, 8)
    head = FCNHead(channels, num_classes=3, channels=5, feature=feature).eval()
    features = [torch.full((2, c, 4, 3), float("nan")) for c in channels]
    features[feature] = torch.randn(2, channels[feature], 7, 5)
    convolved = F.relu(F.conv2d(features[feature], head.conv[0].weight, padding=1) / (1 + 1e-5) ** 0.5)
    logits, out = head(features)
    torch.testing.assert_close(out, convolved)
    torch.testing.assert_close(logits, F.conv2d(convolved, head.classifier.weight, head.classifier.bias))


def test_the_official_form_has_a_bias_and_a_leaky_activation() -> None:
    """Oracle: torch.nn.functional with a slope of 0.01."""
    head = FCNHead([4], num_classes=3, channels=5, activation="leaky_relu", conv_bias=True).eval()
    feature, bias = torch.randn(2, 4, 7, 5), torch.randn(5)
    head.conv[0].bias.data.copy_(bias)
    convolved = F.conv2d(feature, head.conv[0].weight, bias, padding=1) / (1 + 1e-5) ** 0.5
    assert (convolved < -0.1).any()
    torch.testing.assert_close(head([feature])[1], F.leaky_relu(convolved, 0.01))


def test_dropout_acts_while_training_only() -> None:
    """Oracle: with everything dropped the logits are the classifier's bias; in eval mode they are not."""
    head = FCNHead([4], num_classes=3, channels=5, dropout=1.0)
    logits = head([torch.randn(2, 4, 3, 3)])[0]
    torch.testing.assert_close(logits, head.classifier.bias[:, None, None].expand_as(logits))
    assert not torch.allclose(head.eval()([torch.randn(2, 4, 3, 3)])[0], logits)
