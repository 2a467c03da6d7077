"""Publish a price every 0.1 s, as a program outside of the cluster. Run it with `python prices.py`."""

import itertools
import random
import time

import wsd


def main() -> None:
    price = 100.0
    with wsd.Publisher() as publisher:  # the cluster of WSD_URL, with the key in WSD_API_KEY
        for number in itertools.count(1):
            price += random.uniform(-1, 1)
            publisher.publish("prices", {"number": number, "price": round(price, 2)})
            time.sleep(0.1)


if __name__ == "__main__":
    main()
