# SPDX-License-Identifier: Apache-2.0

"""What a policy should beat: models of what others do, for the simulator alone."""
