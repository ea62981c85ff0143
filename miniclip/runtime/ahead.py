"""A loader in front of an iterator: a thread computes the next values while the caller uses the last one."""

import queue
import sys
import threading


def ahead(values, depth=2):
    """Yield what the iterator `values` yields, in its order; the next `depth` values are ready or in work meanwhile.

    An error in it is raised here, at the place of the value. When this generator is closed or forgotten, the thread
    finishes the value that it is computing and ends.
    """
    ready, room, closed = queue.SimpleQueue(), threading.Semaphore(depth), threading.Event()

    def work():
        try:
            while room.acquire() and not closed.is_set():  # waits until there is room
                ready.put((next(values), None))
        except BaseException as error:  # StopIteration too: it is the end
            ready.put((None, error))

    thread = threading.Thread(target=work, name="miniclip-data", daemon=True)
    thread.start()
    try:
        while True:
            value, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            room.release()
            yield value
            del value  # the caller may have let it go
    finally:
        closed.set()
        room.release()
        # when Python ends, its threads no longer run; the garbage collector may close this from the thread itself
        if not sys.is_finalizing() and threading.current_thread() is not thread:
            thread.join()
