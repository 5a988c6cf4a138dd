# SPDX-License-Identifier: Apache-2.0

"""Policies of others: programs of their own, in any language, that are told each look and answer with wishes."""
