# SPDX-License-Identifier: Apache-2.0

"""PyTorch: train a small network on pictures that two DataLoader workers prepare; epoch after epoch.

The data set is in memory, made before the workers are forked, anew for each epoch: they read the parent's pages.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

DRAWN, TIMES, SIDE, CLASSES = 1_000, 40, 40, 10
PICTURES = DRAWN * TIMES
BATCH, EPOCH, WORKERS = 128, 3_200, 2


class Pictures(Dataset):
    """Pictures of bytes; each is turned and scaled when it is asked for."""

    def __init__(self):
        drawn = torch.randint(256, (DRAWN, 3, SIDE, SIDE), dtype=torch.uint8)
        self.pixels = drawn.repeat(TIMES, 1, 1, 1)
        self.labels = torch.randint(CLASSES, (PICTURES,))

    def __len__(self):
        return PICTURES

    def __getitem__(self, index):
        picture = self.pixels[index].float().div_(255).sub_(0.5)
        return picture.flip(-1) if index % 2 else picture, self.labels[index]


def main():
    """Build on the node that this was started on; then work for ever."""
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(2888, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)  # imports a lot more
    loss = nn.CrossEntropyLoss()
    print("imported", flush=True)
    pictures = Pictures()
    print("built", flush=True)
    while True:
        some = RandomSampler(pictures, num_samples=EPOCH)
        for batch, labels in DataLoader(pictures, BATCH, sampler=some, num_workers=WORKERS):
            optimizer.zero_grad()
            loss(model(batch), labels).backward()
            optimizer.step()


main()
