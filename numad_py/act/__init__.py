# SPDX-License-Identifier: Apache-2.0

"""Carry out a Plan in small, timed batches."""
