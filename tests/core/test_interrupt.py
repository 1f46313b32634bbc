"""Ctrl-C and SIGTERM stop a run after its step; what was set up before is set up again afterwards."""

import os
import signal
import threading

import pytest

from calepin.core.interrupt import between_steps, sigterm_as_ctrl_c

SIGNALS = [signal.SIGINT, signal.SIGTERM]


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_the_second_interrupts(number):
    before = handlers()
    with between_steps() as interruption:
        interruption.check()
        os.kill(os.getpid(), number)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            interruption.check()
    assert handlers() == before


def test_sigterm_interrupts_a_command():
    before = handlers()
    with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
        os.kill(os.getpid(), signal.SIGTERM)
    assert handlers() == before


def test_signals_that_are_ignored_stay_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with sigterm_as_ctrl_c(), between_steps() as interruption:
            os.kill(os.getpid(), signal.SIGTERM)
            interruption.check()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_are_left_alone():
    failed = []

    def work():
        try:
            with sigterm_as_ctrl_c(), between_steps() as interruption:
                interruption.check()
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed
