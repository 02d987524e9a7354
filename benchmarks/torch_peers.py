"""Other people's networks in PyTorch, each by its own recipe, as in `peers`: PyTorch's example, and Todd Doucet's."""

import math

import torch
from numpy import ndarray
from torch import Tensor, nn

from digit_recognizer.config import CLASSES, IMAGE_SIZE

Trained = tuple[ndarray, int]
DOUCET_CHANNELS = 32, 64, 128  # a quarter of the author's
DOUCET_BATCH, DOUCET_RISE = 100, 0.3  # images; fraction of the steps to the highest learning rate


def train_pytorch_example(
    images: ndarray, labels: ndarray, held_out: ndarray, *, seed: int, epochs: int = 14
) -> Trained:
    """Train PyTorch's MNIST example (github.com/pytorch/examples).

    The images are shuffled, as the example does on a GPU only.
    """
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)),
        *(nn.Flatten(), nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, CLASSES)),
    )
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)
    inputs, tests = (torch.from_numpy((array - 0.1307) / 0.3081)[..., 0][:, None] for array in (images, held_out))
    targets = torch.from_numpy(labels).long()
    for _ in range(epochs):
        for rows in torch.randperm(len(targets)).split(64):
            _step(model, optimizer, inputs[rows], targets[rows])
        schedule.step()
    return _predict(model, tests)


class Residual(nn.Sequential):
    """Batch normalisation, and a convolution whose output is added to its input."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the output, which has the shape of the input."""
        images = self[0](images)
        return images + self[1](images).relu()


def train_ttdoucet(images: ndarray, labels: ndarray, held_out: ndarray, *, seed: int, epochs: int = 10) -> Trained:
    """Train a narrow network by Todd Doucet's recipe (github.com/ttdoucet/mnist).

    Adam with a one-cycle schedule of learning rate and momentum, and images that are cropped, bent and rotated.
    """
    torch.manual_seed(seed)
    one, two, three = DOUCET_CHANNELS
    blocks = [Residual(nn.BatchNorm2d(n), nn.Conv2d(n, n, 3, padding=1)) for n in (one, one, two, three)]
    model = nn.Sequential(
        *(nn.Conv2d(1, one, 5, padding=2), nn.ReLU(), blocks[0], nn.MaxPool2d(2), blocks[1]),
        *(nn.BatchNorm2d(one), nn.Conv2d(one, two, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), blocks[2]),
        *(nn.BatchNorm2d(two), nn.Conv2d(two, three, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
        *(blocks[3], nn.BatchNorm2d(three), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(three, CLASSES)),
    )
    inputs, targets = torch.from_numpy(images).view(-1, 1, IMAGE_SIZE, IMAGE_SIZE), torch.from_numpy(labels).long()
    steps = len(targets) // DOUCET_BATCH
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(  # the learning rate: from 5e-5 to 4e-4, and to 1.6e-5
        optimizer,
        4e-4,
        steps * epochs,
        pct_start=DOUCET_RISE,
        div_factor=8,
        final_div_factor=3.125,
        cycle_momentum=False,
    )
    for epoch in range(epochs):
        for step, rows in enumerate(torch.randperm(len(targets)).split(DOUCET_BATCH)[:steps], epoch * steps):
            rise = min(step / (DOUCET_RISE * steps * epochs), 1)
            optimizer.param_groups[0]["betas"] = 0.6 + 0.175 * (1 + math.cos(math.pi * rise)), 0.99  # from 0.95 to 0.6
            _step(model, optimizer, crop_images(inputs[rows], distort=True), targets[rows])
            schedule.step()
    return _predict(model, crop_images(torch.from_numpy(held_out).view(-1, 1, IMAGE_SIZE, IMAGE_SIZE)))


def crop_images(images: Tensor, *, distort: bool = False) -> Tensor:
    """Return crops of images in their size, with mean 0 and standard deviation 1, float32 [n, 1, 28, 28].

    Distorted are random crops of 25 pixels by the rules of Augmentor: the inner corners of 4x4 tiles are moved by up to
    a pixel, and of an image that is rotated by up to 10 degrees `kept` is left. Others are crops of the centre, of 24
    pixels, as Pillow rounds a box of 25 there.
    """
    count, functional = len(images), nn.functional
    side, margin = (25, 3) if distort else (24, 0)
    corners = functional.pad(torch.randint(-1, 2, (count, 2, 3, 3)).float() * distort, (1, 1, 1, 1))
    angle = torch.deg2rad(torch.randint(-10, 11, (count,)).float()) * distort
    kept = (torch.cos(angle) - torch.sin(angle).abs()) * side / IMAGE_SIZE
    cosine, sine = kept * torch.cos(angle), kept * torch.sin(angle)
    x, y = (torch.randint(0, margin + 1, (2, count)) - margin / 2) * 2 / IMAGE_SIZE
    affine = torch.stack([cosine, -sine, x, sine, cosine, y], dim=1).view(count, 2, 3)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    bent = functional.interpolate(corners, images.shape[2:], mode="bilinear", align_corners=True)
    grid = grid + bent.permute(0, 2, 3, 1) * side / IMAGE_SIZE * 2 / IMAGE_SIZE
    crops = functional.grid_sample(images, grid, mode="bicubic", align_corners=False).clamp(0, 1)
    return functional.layer_norm(crops, crops.shape[1:])


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def _predict(model: nn.Module, images: Tensor) -> Trained:
    model.eval()
    with torch.inference_mode():
        probabilities = torch.cat([model(batch).softmax(dim=1) for batch in images.split(1000)]).numpy()
    return probabilities, sum(weights.numel() for weights in model.parameters())
