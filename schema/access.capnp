@0xd1f0a8f6c2b7e94d;
# Access: what a capability lets its holder do, and handing out less of it: as a capability to somebody on the same
# connection (FileStore.subtree), or as a token to anybody (FileStore.share).
#
# A grant is what a login stands on: the owner's, which is everything and does not end, or a share, which has terms. A
# share can be made from any FileStore, also from one that is shared itself; it never gives more than that one does,
# and ends with it. When a grant ends, by revocation or by its terms, every call under it answers `revoked` or `expired` from
# then on, those in flight too, with a sentence that names the share's label.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("capstan::schema");

using import "common.capnp".Bytes;
using import "common.capnp".Path;
using import "common.capnp".Time;
using import "common.capnp".Nanoseconds;
using import "common.capnp".Outcome;

enum Right {
  # What a method needs. Holding a capability without it, the method answers `denied`.

  unset @0;     # Nobody said: then only the owner may call it.
  nothing @1;   # To hold the capability is enough.
  read @2;      # Each grant has it.
  write @3;     # Rights.write.
  compute @4;   # Rights.compute.
  own @5;       # The owner's alone.
}

annotation needs @0xb3a1e6f0d95c4827 (method) :Right;
# Stands at every method of the protocol. The server looks here before it calls any, in one place for all.

struct Rights {
  # What a grant lets do besides reading.

  write @0 :Bool;       # Change what is in the tree.
  compute @1 :Bool;     # Use Session.compute().
}

struct ShareTerms {
  path @0 :Path;
  # What is shared: a folder below the FileStore that is asked; "" is all of it. It is found anew by its path at each
  # use: a share of a folder that was moved away is a share of nothing (notFound) until something is there again.

  rights @1 :Rights;    # No more than the FileStore that is asked has: else `denied`.
  lifetime @2 :Nanoseconds;  # From now on; 0: without end.
  uses @3 :UInt64;      # How often a login may succeed with it; 0: any number of times.
  label @4 :Text;       # For people: what it is for; at most 100 characters. Named in the answers after its end.
  quota @5 :Bytes;
  # How much all files below `path` may hold: what would go beyond it is refused (`quota`). Each file, folder and symlink
  # counts at least 4 KiB. Each server of a folder looks at it by itself, and sees what comes by way of others within a
  # minute or so: several servers together may go beyond it for that long. What runs have displaced may take as much
  # again: the oldest of the share's runs (and of those made from it) leave the trash for it, and where that is not
  # enough, displacing is refused (`quota`), save what was there before the only run that is left. 0: what the server
  # gives to those who ask for none (its limit `grant.quota`), which is as much as the disk holds if its owner has not said else.
}

struct Share {
  # One grant.

  id @0 :Text;          # Names it for list and revoke; no secret. "owner" is the owner's.
  parent @1 :Text;      # The id of the grant that it was made from.
  label @2 :Text;
  path @3 :Path;        # Relative to the tree of the one who asks.
  rights @4 :Rights;
  made @5 :Time;
  expires @6 :Time;     # 0: never.
  uses @7 :UInt64;      # As in the terms.
  used @8 :UInt64;      # Logins so far.
  lastUsed @9 :Time;    # Of the last login, to the minute; 0: never.
  quota @10 :Bytes;
  stored @11 :Bytes;    # What counts against the quota, as it was last measured; 0 without a quota.
  state @12 :State;
  connections @13 :UInt32;  # Logged in with it now, at this server.

  enum State {
    unset @0;
    live @1;
    revoked @2;         # By itself or with what it was made from.
    expired @3;         # Its time is over.
    usedUp @4;          # No further login succeeds; those that stand, do.
  }
}

interface Grants {
  # The grant of this login, and those made from it.

  current @0 () -> (outcome :Outcome, share :Share) $needs(nothing);
  # That of this login. Returns at once.

  list @1 (cursor :Data, maxEntries :UInt32)
      -> (outcome :Outcome, shares :List(Share), cursor :Data, atEnd :Bool) $needs(nothing);
  # All that were made from it, and from those in turn; each behind the one that it was made from, else the oldest
  # first. One that has ended is listed for 30 days. Pages: an empty cursor starts, the one answered goes on.

  revoke @2 (id :Text) -> (outcome :Outcome, ended :UInt32) $needs(nothing);
  # Ends a grant and all that were made from it: those which this one may list, or itself. Returns when that is
  # durable and true: no call under one of them succeeds any more, and those in flight have been answered. (Other
  # servers of the same folder notice within 2 seconds.) `ended`: how many. Of one that has ended already: 0. Errors:
  # notFound, invalidArgument (the owner's).

  contact @3 () -> (outcome :Outcome, addresses :List(Text), certificate :Text) $needs(nothing);
  # What goes into an invite besides the token: the addresses that the server listens at, as its owner gave them
  # ("HOST:PORT", "unix:PATH"; a host of "0.0.0.0" or "[::]" is every address of the machine), and its certificate as
  # PEM, by which a client knows it; empty: it has none.
}
