"""VTP 2.0, the VOEvent Transport Protocol, on Comet's protocol factories.

`Receiver` takes VOEvents from authors, `Broadcaster` sends them to subscribers,
`Subscriber` hears another broker. All three get the reactor as an argument and
do nothing before ``start`` or ``listen``; importing this package installs no
reactor (``comet.protocol`` does, so it is imported when a service starts).

Faults of Comet 3.1.0 that are mended here
    1. *Costly XPath filters stop the broker*: filters are not supported. A subscriber
       that asks for one gets a ``nak`` that says so and is disconnected, so that
       it does not take the whole stream for the filtered one (this ends fault 7,
       filters that silently pass nothing or everything, too).
    2. *A subscriber that never reads fills the memory*: dropped when more than a
       bounded number of bytes waits for it.
    3. *Unsolicited ``iamalive`` keep a dead peer alive*: one answer counts once, for
       the ``iamalive`` that it answers.
    4. *Duplicates are NAKed, a comment hides them*: compared bit for bit over the
       ``<VOEvent>`` element, acknowledged, acted on once.
    5. *Long packets are closed without an answer*: the limit is a setting; beyond
       it a ``nak`` says so.
    6. *Broken packets are closed without an answer*: ``nak`` with the reason, and
       ``on_reject`` gets the bytes.
    8. *A rejected packet counts as seen; two events on one connection lose an ack*:
       a packet counts as seen once it was acted on; each event is answered.
    9. *VOEvent 1.1 and 2.1 are NAKed*: accepted; so is what can be read though it fails
       the schema of 2.0, as packets of GECAM do (a ``nak`` is for ever). ``check`` is a setting.
    10. *Positions off the sky and times that are none are acked*: NAKed.

Besides: a peer that stays silent within a packet is cut off (total time, not idle
time); a packet whose handling failed gets no receipt, so that its author sends it
again; a stopped subscriber stays stopped; a subscriber's ``nak`` concerns that event only;
nothing but the look-up of host names runs in the reactor's threads.

What remains: Comet's own subscribers still disconnect at packets above 99,999
bytes (the limit is theirs); no TLS and no authentication (VTP has none; use the allow-lists or a
tunnel), no replay of what a subscriber missed, and duplicates are remembered in
memory, so that after a restart the receiver passes on a repeated packet once more.
"""

from voevents.vtp.services import Broadcaster, Receiver, Subscriber

__all__ = ["Broadcaster", "Receiver", "Subscriber"]
