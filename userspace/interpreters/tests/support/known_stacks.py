# Threads that stand still at known places, each in another way, and say where. What is written to standard output is
# one line of JSON: for each thread its number for the kernel and its frames, innermost first, as (name, file, line).
import asyncio, json, os, sys, threading

try:
    import ctypes
except ImportError:
    ctypes = None

SHAPES = {}
arrived = threading.Semaphore(0)
never = threading.Lock()
never.acquire()
number_of_thread = getattr(threading, "get_native_id", None) or (lambda: ctypes.CDLL(None).syscall(186))


def shape(function):
    SHAPES[function.__name__] = function
    return function


def stand():
    arrived.release(), never.acquire()


@shape
def recursion(depth=700):
    if depth == 0:
        stand()
    else:
        recursion(depth - 1)


class Method:
    def __init__(self, run):
        if run:
            self.run()

    def run(self):
        return self.static(3)

    @staticmethod
    def static(number):
        def closure():
            stand()
            return number
        return closure()


@shape
def construction():
    return Method(True)


@shape
def method():
    return Method(False).run()


def numbers():
    yield 1
    stand()
    yield 2


def delegated():
    yield from numbers()


@shape
def generator():
    for number in delegated():
        sum([number])


@shape
def builtin_next():
    iterator = delegated()
    next(iterator), next(iterator)


def key_from_c(number):
    stand()
    return number


@shape
def callback():
    return sorted([2, 1], key=key_from_c)


def called_from_c():
    stand()
    return 0


def foreign():
    return ctypes.CFUNCTYPE(ctypes.c_int)(called_from_c)()


if ctypes:
    shape(foreign)


@shape
def comprehension():
    return [stand() for number in range(1)]


@shape
def exception():
    try:
        raise ValueError(
            "one")
    except ValueError:
        try:
            {}["two"]
        except KeyError:
            stand()
        finally:
            pass


async def inner():
    stand()


async def outer():
    await inner()


@shape
def coroutine():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(outer())


def names_of_each_width():
    source = "def caf\u00e9():\n" + "\n" * 400 + " stand()\n" + "\n" * 300
    source += "def \u51fd\u6570():\n caf\u00e9()\n\ndef \U00010400():\n \u51fd\u6570()\n"
    source += "def " + "l" * 3000 + "():\n \U00010400()\nshape(" + "l" * 3000 + ")"
    exec(compile(source, "<\u0444\u0430\u0439\u043b \U0001f600>", "exec"), globals())


names_of_each_width()


def spin():
    spinning.set()
    while True: pass


@shape
def working():
    spin()


def stack_of(frame):
    frames = []
    while frame is not None:
        code = frame.f_code
        frames.append([getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno])
        frame = frame.f_back
    return frames


def run(name):
    threads[name] = number_of_thread(), threading.get_ident()
    SHAPES[name]()


def publish():
    stacks = sys._current_frames()
    threads["main"] = number_of_thread(), threading.get_ident()
    found = {}
    for name, (number, ident) in threads.items():
        found[name] = [number, stack_of(sys._getframe(1) if name == "main" else stacks[ident])]
    print(json.dumps(found), flush=True)


threads = {}
spinning = threading.Event()
if __name__ == "__main__":
    sys.setrecursionlimit(5000)
    order = [name for name in SHAPES if name != "working"] + ["working"]
    for name in order:
        if name == "working":
            [arrived.acquire() for other in order[:-1]]
        threading.Thread(target=run, args=(name,), daemon=True).start()
    spinning.wait()
    publish(), os.read(0, 1)
