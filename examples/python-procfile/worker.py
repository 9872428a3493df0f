"""Another process of the same image: `hako container run --entrypoint my-worker IMAGE`."""

import time

while True:
    print("working", flush=True)
    time.sleep(5)
