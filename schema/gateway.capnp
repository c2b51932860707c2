@0x9f296da03b397c81;
# The way in: what a server is, and how to log in to it. The Gateway is the bootstrap capability of each connection.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("capstan::schema");

using import "common.capnp".Bytes;
using import "common.capnp".Nanoseconds;
using import "common.capnp".Outcome;
using import "access.capnp".needs;
using import "access.capnp".Grants;
using import "files.capnp".FileStore;
using import "files.capnp".WatchMeans;
using import "compute.capnp".Compute;

const protocolVersion :UInt32 = 1;
# Raised when a change would make an older peer misunderstand. Additions do not raise it.

interface Gateway {
  # Needs no login, and gives nothing away but what ServerInfo holds.

  hello @0 () -> (info :ServerInfo) $needs(nothing);
  # Who is there. Returns at once; also the way to measure the round trip. Before a login that needs a token, process id,
  # uptime and host are left out.

  login @1 (token :Data, protocolVersion :UInt32, client :Text) -> (outcome :Outcome, session :Session) $needs(nothing);
  # Opens a session. `token` is the secret's 32 bytes; it may be empty where ServerInfo.authentication says that none is
  # needed. `protocolVersion` is the caller's; 0 means 1. `client` names the program for the server's log and status,
  # at most 64 characters of it. A token counts as what it opens also where none is needed. Errors: denied, revoked and
  # expired (the share that the token opens), limit, protocolVersion, shuttingDown. Touches the disk only if it is one of
  # a limited number of uses, which is counted first.
  # Wrong tokens are counted, and each one from an address is answered more slowly than the one before it.
}

struct ServerInfo {
  name @0 :Text;                # "capstan".
  version @1 :Text;             # Of the program, as in "0.1.0".
  protocolVersion @2 :UInt32;   # The newest that the server speaks.
  oldestProtocolVersion @3 :UInt32;  # The oldest that it still speaks.
  processId @4 :UInt32;
  uptime @5 :Nanoseconds;
  authentication @6 :Authentication;
  limits @7 :Limits;
  host @8 :Text;                # The machine's host name.
}

enum Authentication {
  # What login() on this connection needs.
  unset @0;
  none @1;      # Nothing: the server was started so.
  sameUser @2;  # Nothing: the Unix socket's peer is the user that runs the server.
  token @3;
}

struct Limits {
  # What a client has to know to stay within bounds. All are for one connection where nothing else is said.

  path @0 :Bytes;             # Length of a path.
  message @1 :Bytes;          # Size of a message in either direction. A longer one ends the connection.
  read @2 :Bytes;             # What one File.read() answers at most.
  put @3 :Bytes;              # What one FileStore.put() takes at most.
  listEntries @4 :UInt32;     # Entries that one FileStore.list() answers at most.
  openFiles @5 :UInt32;       # File capabilities held.
  uploads @6 :UInt32;         # Upload capabilities held.
  connections @7 :UInt32;     # Connections to this server, all clients together.
  resumeTime @8 :Nanoseconds; # How long an interrupted upload can be resumed.
  writeChunk @9 :Bytes;       # The size of ByteSink.write() that serves best.
  values @10 :UInt32;         # Value capabilities held.
  valueBytes @11 :Bytes;      # What the Values held take on the server's disk and in its memory, all together.
  sortMemory @12 :Bytes;      # What one sort uses before it goes to disk.
  jobsRunning @13 :UInt32;    # At the same time, for one grant; more are queued.
  jobsQueued @14 :UInt32;     # For one grant.
  jobsKept @15 :UInt32;       # Jobs that have ended, for one grant; the oldest are forgotten first.
  jobResultBytes @16 :Bytes;  # Their results, for one grant; the oldest are forgotten first.
  jobResultTime @17 :Nanoseconds;  # How long a job is kept after its end.
  batchOperations @18 :UInt32; # In one batch.
  batches @19 :UInt32;         # Batch capabilities held.
  subscriptions @20 :UInt32;   # Held.
  trashTime @21 :Nanoseconds;  # How long the trash keeps what a run displaced.
  batchBytes @22 :Bytes;       # Of paths, targets and versions in all batches that are not committed yet...
  batchStagedBytes @23 :Bytes; # ...and of content, 4 KiB at least for each file. More throws "[limit] ...".
}

interface Session {
  # What one login may use. Dropping it (and everything got through it) logs out.

  fileStore @0 () -> (outcome :Outcome, fileStore :FileStore) $needs(read);
  # The served tree, as far as the grant goes. Returns at once.

  status @1 () -> (outcome :Outcome, status :Status) $needs(read);
  # What the server is doing. Returns at once; the figures are not one instant's, but each is true by itself. Under a
  # share: what this connection holds, and as `connections` those of the share; all else is the owner's business, and 0.

  compute @2 () -> (outcome :Outcome, compute :Compute) $needs(compute);
  # The place to compute. Returns at once.

  grants @3 () -> (outcome :Outcome, grants :Grants) $needs(nothing);
  # The grant of this login, and those made from it. Returns at once.
}

struct Status {
  info @0 :ServerInfo;
  connections @1 :UInt32;          # Open now.
  connectionsAccepted @2 :UInt64;  # Since the start.
  sessions @3 :UInt32;
  uploads @4 :UInt32;              # Transfers towards the server that are open now.
  downloads @5 :UInt32;            # Streams from the server that are open now.
  openFiles @6 :UInt32;
  jobs @7 :UInt32;                 # Queued or running.
  bytesReceived @8 :Bytes;         # On the wire, since the start.
  bytesSent @9 :Bytes;
  calls @10 :UInt64;               # Messages received since the start.
  commits @11 :UInt64;             # Mutations made durable since the start...
  flushes @12 :UInt64;             # ...and flushes of the disk that they cost.
  cache @13 :CacheStatus;
  residentMemory @14 :Bytes;
  threads @15 :UInt32;             # Event loops.
  listeners @16 :List(Text);
  root @17 :Text;                  # The served folder, escaped for a terminal.
  computations @18 :UInt32;        # Under way or waiting for a thread, jobs not counted.
  values @19 :UInt32;              # Held by clients.
  valueBytes @20 :Bytes;           # What those take in memory and on disk.
  subscriptions @21 :UInt32;       # Clients that watch.
  trashBytes @22 :Bytes;
  watch @23 :WatchMeans;           # How changes by other programs are noticed; `unset` before the first one watches.
  failedLogins @24 :UInt64;        # With a token that opens nothing, since the start.
  limits @25 :List(LimitStatus);   # All that the server has.
}

struct LimitStatus {
  # What one limit is, how near it is, and how often it was run into. New ones may come: programs do without knowing them.

  name @0 :Text;        # As in "uploads"; behind its scope ("connection.uploads") as `capstan serve --limit` takes it.
  scope @1 :Scope;
  unit @2 :Unit;
  value @3 :UInt64;     # 0: there is no such limit.
  used @4 :UInt64;      # Now, by the connection or share that uses most; 0 where that is not counted. Under a share: by
                        # this connection and this share.
  refused @5 :UInt64;   # How often it was run into since the start; under a share 0.

  enum Scope {
    unset @0;
    connection @1;      # It holds for each connection.
    grant @2;           # For each share, with what was made from it, over all connections.
    server @3;          # For all together.
  }

  enum Unit {
    unset @0;
    count @1;
    bytes @2;
    nanoseconds @3;
  }
}

struct CacheStatus {
  bytes @0 :Bytes;      # Memory in use, bookkeeping included.
  limit @1 :Bytes;
  entries @2 :UInt64;
  hits @3 :UInt64;
  misses @4 :UInt64;
  evictions @5 :UInt64;
  policy @6 :CachePolicy;
}

enum CachePolicy {
  unset @0;
  fifo @1;
  lru @2;
}
