# SPDX-License-Identifier: Apache-2.0

"""Train the model that the policy `learned` asks, on simulated machines that nobody has.

Needs scikit-learn, which nothing else of this package may import, and `fitting` alone does.
"""

from numad_py.mendable import Mendable


class CannotTrain(Mendable):
    """No model would come of this, or a wrong one; one sentence says why."""
