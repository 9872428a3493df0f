"""Another process of the same image: `hako container run IMAGE my-worker`."""

import time

while True:
    print("working", flush=True)
    time.sleep(5)
