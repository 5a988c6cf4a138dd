# SPDX-License-Identifier: Apache-2.0

"""PyTorch: train a small network on pictures that two DataLoader workers prepare; epoch after epoch.

The data set is in memory, made before the workers are forked: each reads the parent's pages.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

PICTURES, SIDE, CLASSES = 40_000, 40, 10
BATCH, WORKERS = 128, 2

print("imported", flush=True)


class Pictures(Dataset):
    """Pictures of bytes; each is turned and scaled when it is asked for."""

    def __init__(self):
        self.pixels = torch.randint(256, (PICTURES, 3, SIDE, SIDE), dtype=torch.uint8)
        self.labels = torch.randint(CLASSES, (PICTURES,))

    def __len__(self):
        return PICTURES

    def __getitem__(self, index):
        picture = self.pixels[index].float().div_(255).sub_(0.5)
        return picture.flip(-1) if index % 2 else picture, self.labels[index]


def main():
    """Build on the node that this was started on; then work for ever."""
    torch.set_num_threads(1)
    pictures = Pictures()
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(2888, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = nn.CrossEntropyLoss()
    print("built", flush=True)
    while True:
        for batch, labels in DataLoader(pictures, BATCH, shuffle=True, num_workers=WORKERS):
            optimizer.zero_grad()
            loss(model(batch), labels).backward()
            optimizer.step()


main()
