"""Power loss and failing disks: the real engine in a real process, watched by strace.

``python -m tests.disk.power_loss`` rebuilds what a power cut could have left of the
database after every write; ``python -m tests.disk.failing`` lets the disk fail, fill
up or turn read-only. Both commands need Linux and strace; what they reckon with is
plain code, whose tests need neither.
"""
