"""Burns CPU in the interpreter's loop until it is ended."""


def work(rounds):
    value = 1
    for i in range(rounds):
        value = (value * 31 + i) % 1000003
    return value


print("ready", flush=True)
while True:
    work(10000)
    sorted(range(1000), key=lambda n: -n)
