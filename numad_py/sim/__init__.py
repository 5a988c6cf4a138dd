# SPDX-License-Identifier: Apache-2.0

"""A machine made of numbers: replay, cost model, scores, report."""
