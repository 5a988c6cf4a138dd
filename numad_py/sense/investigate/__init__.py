# SPDX-License-Identifier: Apache-2.0

"""Look closer at one job for some seconds: who accesses which of its pages, by samples or by DAMON."""
