# SPDX-License-Identifier: Apache-2.0

"""pandas: a report on orders: joined with their customers, grouped, sorted; round and round.

Every round makes frames of its own and lets them go.
"""

import numpy as np
import pandas as pd

ORDERS, CUSTOMERS, PRODUCTS = 2_000_000, 100_000, 5_000

print("imported", flush=True)


def tables(rng):
    """Make orders and customers."""
    orders = pd.DataFrame(
        {
            "customer": rng.integers(CUSTOMERS, size=ORDERS),
            "product": rng.integers(PRODUCTS, size=ORDERS),
            "amount": rng.gamma(2.0, 30.0, ORDERS),
            "day": np.datetime64("2025-01-01") + rng.integers(365, size=ORDERS),
        }
    )
    customers = pd.DataFrame(
        {
            "customer": rng.permutation(CUSTOMERS),
            "region": pd.Categorical.from_codes(rng.integers(4, size=CUSTOMERS), ["N", "E", "S", "W"]),
            "discount": rng.random(CUSTOMERS) / 5,
        }
    )
    return orders, customers


def report(orders, customers):
    """Give sales by region and month, and the orders that were worth most."""
    joined = orders.merge(customers, on="customer")
    joined["paid"] = joined["amount"] * (1 - joined["discount"])
    month = joined["day"].dt.month
    by_month = joined.groupby(["region", month], observed=True)["paid"].agg(["sum", "mean", "count"])
    by_product = joined.groupby("product")["paid"].sum().sort_values(ascending=False)
    return by_month, by_product, joined.sort_values("paid").tail(1000)


def main():
    """Build on the node that this was started on; then work for ever."""
    orders, customers = tables(np.random.default_rng(1))
    print("built", flush=True)
    while True:
        report(orders, customers)


main()
