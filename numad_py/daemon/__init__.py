# SPDX-License-Identifier: Apache-2.0

"""The service: the loop wired to the live machine."""
