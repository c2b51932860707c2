@0xd469ef57221a93f3;
# Files: a tree that can be listed, read and changed, one file held open, and content on its way in or out.
#
# For all interfaces here: holding the capability is the permission, dropping it releases what it holds at the server
# (a descriptor, a staged upload), and a connection that ends drops all of its capabilities. Calls on one capability
# are started in the order in which they were sent, and mutations sent on one connection take effect in that order; a
# call on a capability that is not answered yet (Upload.commit pipelined on FileStore.create) counts as sent when it is.
# "Durable" means: it survives that the machine loses power after the call returned, as far as the disk keeps its word.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("capstan::schema");

using import "common.capnp".Bytes;
using import "common.capnp".Path;
using import "common.capnp".Time;
using import "common.capnp".Nanoseconds;
using import "common.capnp".Error;
using import "common.capnp".Version;
using import "common.capnp".Outcome;
using import "access.capnp".needs;
using import "access.capnp".Rights;
using import "access.capnp".Share;
using import "access.capnp".ShareTerms;

struct Entry {
  # One file, folder or symlink, as it was at one moment.

  path @0 :Path;        # Relative to the FileStore that was asked.
  type @1 :Type;
  size @2 :Bytes;       # Of a file's content; the length of a symlink's target; 0 for folders.
  mtime @3 :Time;
  mode @4 :UInt32;      # Permission bits, 0 to 0o7777.
  version @5 :Version;
  cached @6 :Bool;      # The file's content is in the server's memory cache, in this version.
  target @7 :Data;      # Where a symlink points, as it is stored; not checked, not followed.
  identity @8 :UInt64;
  # Tells the thing from others, as long as it exists: the same after a rename, and after a change in place. 0: not
  # known. Two names of one file (hard links) have the same. May be used again for something new after the thing is gone.

  enum Type {
    unset @0;
    file @1;
    directory @2;
    symlink @3;
    other @4;           # A device, socket or pipe: it is listed, and can be renamed or removed, but not read.
  }
}

struct Expectation {
  # What a mutation wants to find at the place that it changes. If it finds something else, nothing is changed and the
  # call answers `exists`, `notFound` or `conflict`. This holds against other programs that change the folder beside
  # the server too: what came out of the exchange is checked, and put back if it is not what was expected. (On file
  # systems without RENAME_EXCHANGE a window of a few microseconds between check and rename is left.)

  union {
    any @0 :Void;
    absent @1 :Void;
    version @2 :Version;
    identity @3 :UInt64;
    # It is this very thing (Entry.identity, not 0), whatever has become of it: for folders, whose version is another one
    # whenever something in them comes or goes. Looked at before the change only.
  }
}

struct Attributes {
  # Metadata to set. `keep` means: as it is; for something new: 0666 or 0777 less the server's umask, and now. A file
  # that replaces another keeps that one's mode.

  mode :union {
    keep @0 :Void;
    set @1 :UInt32;     # Permission bits, 0 to 0o7777.
  }
  mtime :union {
    keep @2 :Void;
    set @3 :Time;
  }
}

enum DigestAlgorithm {
  unset @0;
  xxh3 @1;    # XXH3, 128 bits, seed 0, in its canonical big-endian form: 16 bytes. Fast; finds accidents, not attacks.
  sha256 @2;  # 32 bytes.
}

struct Digest {
  algorithm @0 :DigestAlgorithm;
  value @1 :Data;
}

struct ContentCheck {
  # What the content has to be. A check that fails answers `corrupt`, and nothing is changed.

  size :union {
    unknown @0 :Void;
    known @1 :Bytes;
  }
  digest @2 :Digest;    # Null, or with algorithm `unset`: not checked.
}

struct Chunk {
  # A piece of a file's content, cut where the content says so (see File.chunks).

  length @0 :UInt32;
  digest @1 :Data;      # XXH3, 128 bits, of these bytes.
}

interface FileStore {
  # A tree of folders, files and symlinks. Symlinks on the way to a path are followed as long as they stay inside the
  # tree; a link that leads out is `invalidPath`. The last name of a path is followed by `open` only (and by `stat` on
  # request): all other methods work on the link itself.

  stat @0 (path :Path, follow :Bool) -> (outcome :Outcome, entry :Entry) $needs(read);
  # Errors: notFound, notDirectory, invalidPath, denied.

  list @1 (path :Path, recursive :Bool, cursor :Data, maxEntries :UInt32)
      -> (outcome :Outcome, entries :List(Entry), cursor :Data, atEnd :Bool, unread :List(Error)) $needs(read);
  # The entries below a folder, without the folder itself, in the order of their names' bytes; recursive: each folder
  # followed by what is in it. Symlinks are listed, not entered. Pages: an empty `cursor` starts; the answered one
  # goes on, until `atEnd`. A page may be shorter than `maxEntries` (0: as many as Limits.listEntries). What is there
  # during the whole listing appears exactly once, whatever else comes and goes meanwhile; a cursor does not expire and
  # works on another connection too. A folder that cannot be read is an error (denied, io); below a recursive listing
  # such a folder is listed itself, without what is in it, and with its error in `unread`, in the same page as the folder
  # or in a later one, before whatever is listed behind it: what is not listed at or below the `path` of such an error is
  # not known to be gone. Errors: notFound, notDirectory, invalidPath, denied, invalidArgument, io.

  open @2 (path :Path) -> (outcome :Outcome, file :File) $needs(read);
  # A file for reading. It stays what it was: a later rename, removal or replacement of the path does not change it
  # (only a program that writes into the same file does). Costs a descriptor at the server until it is dropped.
  # Errors: notFound, isDirectory, invalidPath, denied, limit, unsupported.

  create @3 (path :Path, options :UploadOptions) -> (outcome :Outcome, upload :Upload, offset :Bytes) $needs(write);
  # Starts an upload that will become the file at `path`. Nothing is visible there before Upload.commit(). `offset` is
  # how much of an earlier upload with the same resume key is there already: go on from that byte.
  # The expectation is looked at here, to fail early, and again at commit, where it counts.
  # Errors: notFound (parent), exists, conflict, notDirectory, isDirectory, invalidPath, denied, noSpace, limit.

  put @4 (path :Path, content :Data, options :UploadOptions, check :ContentCheck)
      -> (outcome :Outcome, entry :Entry) $needs(write);
  # create, write and commit in one call, for content of at most Limits.put bytes. `resumeKey` is not used. Returns when
  # the file is durable. Errors: those of create and commit, tooLarge.

  makeDirectory @5 (path :Path, attributes :Attributes, parents :Bool)
      -> (outcome :Outcome, entry :Entry) $needs(write);
  # A new folder. `parents` makes the missing folders on the way too, and is content with a folder that is there
  # already (whose metadata is then left alone). Durable when it returns. Errors: exists, notFound, notDirectory, ...

  symlink @6 (path :Path, target :Data, expectation :Expectation, attributes :Attributes, makeParents :Bool)
      -> (outcome :Outcome, entry :Entry) $needs(write);
  # A symlink that holds `target` as it is given, 1 to 4,095 bytes without NUL; it may point nowhere or outside, and is
  # then kept but never followed. Replaces a file or symlink, not a folder. Mode is ignored. Durable when it returns.

  setMetadata @7 (path :Path, attributes :Attributes, expectation :Expectation)
      -> (outcome :Outcome, entry :Entry) $needs(write);
  # Durable when it returns. The expectation is checked, then the attributes are set: a change made beside the server in
  # between goes unnoticed. `absent` is `invalidArgument`. The mode of a symlink cannot be set.

  rename @8 (from :Path, to :Path, fromExpectation :Expectation, toExpectation :Expectation, makeParents :Bool)
      -> (outcome :Outcome, entry :Entry) $needs(write);
  # Moves a file, folder or symlink in one step; there is no moment when neither path, or a mixture, is there. A file or
  # symlink at `to` is replaced, an empty folder is replaced by a folder; otherwise notEmpty, isDirectory or
  # notDirectory. Durable when it returns. `entry` is what is at `to` now.
  # A folder cannot be moved into itself (invalidArgument).

  copy @9 (from :Path, to :Path, fromExpectation :Expectation, toExpectation :Expectation, makeParents :Bool)
      -> (outcome :Outcome, entry :Entry) $needs(write);
  # Copies at the server: a file, symlink, or folder with all that is in it, with mode and mtime. Shares blocks where the
  # file system can; holes stay holes. The copy appears in one step when it is whole, durable when it returns. Replaces
  # as `rename` does, save that a folder replaces nothing (exists). Dropping the call's promise may stop the copy.

  remove @10 (path :Path, recursive :Bool, expectation :Expectation) -> (outcome :Outcome, entry :Entry) $needs(write);
  # Removes a file, symlink or empty folder; `recursive`: a folder with all that is in it, which vanishes from the tree
  # in one step. Durable when it returns; the space is freed soon after. `entry` is what was removed. The tree itself
  # ("") cannot be removed. `absent` is `invalidArgument`. Errors: notFound, notEmpty, conflict, denied, ...

  begin @11 (options :BatchOptions) -> (outcome :Outcome, batch :Batch, run :RunId) $needs(write);
  # Starts a batch of mutations. `run` is the id under which the trash keeps what the batch displaces: that of the
  # options, or a new one. Returns at once. Errors: limit, shuttingDown, invalidArgument.

  watch @12 (watcher :Watcher, since :Cursor, options :WatchOptions)
      -> (outcome :Outcome, subscription :Subscription, cursor :Cursor, means :WatchMeans) $needs(read);
  # From now on, `watcher` is told of what changes below the tree, by whomever, until the subscription is dropped or
  # the connection ends. `since`: first of what has changed since that cursor; empty: of nothing that was before. A
  # cursor that the server does not know any more (it remembers some 100,000 changes, none of those before its own start,
  # and nothing of a time in which nobody had watched for a day) is answered by a first notice `overflow`: list again.
  # `cursor` is where the watching begins: everything that was changed before this call was sent is either before it, or
  # in a notice. Errors: notFound, limit, denied.

  trash @13 () -> (outcome :Outcome, trash :Trash) $needs(read);
  # What batches have displaced: under a share, and in a subtree, only what batches begun there have. Returns at once.

  subtree @14 (path :Path, rights :Rights) -> (outcome :Outcome, store :FileStore) $needs(read);
  # The folder at `path` ("": this tree) as a tree of its own, with these rights, of which this one must have each
  # (denied). It can be handed on in place of this one: what leads out of the folder is `invalidPath` there. The folder
  # is found anew by its path at each use. Ends with the grant and the connection. Errors: notFound, notDirectory,
  # invalidPath, denied.

  share @15 (terms :ShareTerms) -> (outcome :Outcome, share :Share, token :Data) $needs(read);
  # Makes a grant from this one, and the token, 32 bytes, by which anybody can log in to it. The token is answered once
  # and kept nowhere. Durable when it returns. Errors: notFound and notDirectory (the path), denied, invalidArgument,
  # limit.
}

using RunId = Data;
# Names one run of a program that changes a tree, in several batches if need be: 16 bytes.

using Cursor = Data;
# A place in the sequence of a tree's changes, at most 64 bytes. Opaque, but for one thing: empty is "no place".

struct BatchOptions {
  run @0 :RunId;      # Null: a new run. Else batches, puts and uploads with the same run are displaced and undone together.
  label @1 :Text;     # For people: what the run is, at most 200 characters. That of the run's first batch counts.
}

struct Operation {
  # One mutation in a batch. Each field means what the method of FileStore with its name has.

  union {
    unset @0 :Void;
    put :group {
      path @1 :Path;
      content @2 :Data;           # At most Limits.put.
      options @3 :UploadOptions;  # resumeKey and expectedSize are not used.
      check @4 :ContentCheck;
    }
    makeDirectory :group {
      path @5 :Path;
      attributes @6 :Attributes;
      parents @7 :Bool;
    }
    symlink :group {
      path @8 :Path;
      target @9 :Data;
      expectation @10 :Expectation;
      attributes @11 :Attributes;
      makeParents @12 :Bool;
    }
    setMetadata :group {
      path @13 :Path;
      attributes @14 :Attributes;
      expectation @15 :Expectation;
    }
    rename :group {
      from @16 :Path;
      to @17 :Path;
      fromExpectation @18 :Expectation;
      toExpectation @19 :Expectation;
      makeParents @20 :Bool;
    }
    copy :group {
      # One file or symlink; a folder is `isDirectory` here. What is copied is what the operations before have left. A
      # file of more than 1 MiB that they change, move or make is a `conflict` (and so are smaller ones after 16 MiB of
      # them): it is copied by a later batch.
      from @21 :Path;
      to @22 :Path;
      fromExpectation @23 :Expectation;
      toExpectation @24 :Expectation;
      makeParents @25 :Bool;
      attributes @26 :Attributes;   # Of the copy; `keep`: the source's.
    }
    remove :group {
      path @27 :Path;
      recursive @28 :Bool;
      expectation @29 :Expectation;
    }
  }
}

interface Batch {
  # Mutations that are sent as a stream, and carried out in their order with one flush of the disk for all of them.
  # Each succeeds or fails by itself; one that fails does not stop those after it. What they overwrite or remove is not
  # deleted, but moved to the trash under the run's id. Dropping the batch before `commit` throws it away: nothing was
  # changed.

  add @0 (operations :List(Operation)) -> stream $needs(write);
  # Further operations; content is staged at once, everything else waits for `commit`. Some 256 KiB of content in one
  # call serve best. More than Limits.batchOperations in one batch, or more than Limits.batchBytes or batchStagedBytes in
  # all of a connection, throw "[limit] ...".

  commit @1 () -> (outcome :Outcome, results :List(OperationResult)) $needs(write);
  # Carries them out. Returns when all that succeeded is durable, with one result for each operation, in order. The
  # batch is used up then. An error in `outcome` itself (shuttingDown, noSpace while staging) says that nothing was
  # changed.
}

struct OperationResult {
  outcome @0 :Outcome;
  entry @1 :Entry;      # As the method answers it: what is at the path now (after `remove`: what was).
}

struct WatchOptions {
  path @0 :Path;            # Only what is at or below this path; "" for the whole tree. It need not exist.
  minimumInterval @1 :Nanoseconds;
  # Time between the beginnings of two notices, for watchers that rather hear seldom and more. 0: as soon as it may be.
}

struct WatchMeans {
  # How the server notices what other programs change. What is changed through the server is known at once in any case.

  method @0 :Method;
  interval @1 :Nanoseconds;   # Of `polling`, and of what `partly` leaves to it.
  partly @2 :Bool;            # Not all folders could be watched (a limit of the system): the others are polled.

  enum Method {
    unset @0;
    fanotify @1;
    inotify @2;
    polling @3;
  }
}

interface Watcher {
  # Implemented by whoever wants to hear of changes.

  notify @0 (notices :List(Notice), cursor :Cursor, overflow :Bool) -> () $needs(nothing);
  # What has changed since the call before, one notice for each path, in the order of the last changes. `cursor` is the
  # place behind them: kept, and given to `watch` later, nothing in between is missed. `overflow`: more has changed than
  # the server remembers, or it cannot tell what; whoever wants to know has to list. Only one call is under way at a
  # time: what changes meanwhile is gathered for the next, so a slow watcher delays nobody, and is told of the last state.
}

struct Notice {
  path @0 :Path;        # Relative to the FileStore that was asked.
  kind @1 :Kind;
  from @2 :Path;        # With `moved`: where it was.
  entry @3 :Entry;      # What was there when the notice was made; type `unset`: nothing.

  enum Kind {
    unset @0;
    created @1;         # It was not there at the notice before.
    changed @2;         # Content or metadata.
    removed @3;         # With all that was below it.
    moved @4;           # From `from` to `path`, with all that is below it.
    subtree @5;         # Anything at or below the path may have changed.
  }
}

interface Subscription {
  # Dropping it ends the watching.

  flush @0 () -> (outcome :Outcome, cursor :Cursor) $needs(read);
  # Returns when the watcher has been told of everything that changed before this call. The cursor is behind it.

  ended @1 () -> (outcome :Outcome) $needs(nothing);
  # Returns when the watching is over, with the reason: `revoked` or `expired` (the grant), `cancelled` (a call to the
  # watcher failed). As long as it goes on, the call waits; dropping its promise changes nothing.
}

interface Trash {
  # What batches have displaced, by run: each thing under the path that it had. Kept for Limits.trashTime, and as long
  # as all of it is less than a tenth of the disk; the oldest go first. Plain files of the server's own folder.

  runs @0 (before :RunId, maxRuns :UInt32) -> (outcome :Outcome, runs :List(Run), atEnd :Bool) $needs(read);
  # The latest first. Pages: `before` null starts; the last one answered goes on.

  list @1 (run :RunId, path :Path, cursor :Data, maxEntries :UInt32)
      -> (outcome :Outcome, items :List(TrashItem), cursor :Data, atEnd :Bool) $needs(read);
  # What a run (null: any run, the latest first) has displaced at and below a path. Pages as FileStore.list has them.
  # Errors: notFound (the run).

  restore @2 (run :RunId, path :Path, to :Path) -> (outcome :Outcome, entry :Entry) $needs(write);
  # Puts back what the run displaced at this path, to `to` (null: where it was), where nothing may be (exists). Missing
  # folders are made. Durable when it returns.

  undo @3 (run :RunId)
      -> (outcome :Outcome, undone :UInt64, failures :List(Error), run :RunId, failed :UInt64) $needs(write);
  # Takes back what a run did, the last operation first: what it displaced is put back, what it made or renamed is taken
  # away or renamed back; what it overwrote with goes to the trash itself, under the new run that is answered: an undo
  # can be undone. Whatever was changed since is left as it is, and told in `failures` (conflict): the first thousand of
  # `failed`. Durable when it returns. Errors: notFound, expired (what would be needed has left the trash).

  empty @4 (olderThan :Nanoseconds) -> (outcome :Outcome, freed :Bytes) $needs(own);
  # Deletes what is older than this; 0: everything.
}

struct Run {
  id @0 :RunId;
  label @1 :Text;
  began @2 :Time;
  ended @3 :Time;           # Of its last batch.
  client @4 :Text;          # As it named itself at login.
  created @5 :UInt64;       # Files, folders and symlinks made anew,
  replaced @6 :UInt64;      # overwritten,
  removed @7 :UInt64;       # removed,
  moved @8 :UInt64;         # and renamed.
  bytes @9 :Bytes;          # What the trash holds of it.
  canUndo @10 :Bool;        # The trash still has everything.
  undoneBy @11 :RunId;      # The undo, if there was one.
}

struct TrashItem {
  run @0 :RunId;
  entry @1 :Entry;          # `path`: where it was. Folders are listed with what is in them, each entry by itself.
  displaced @2 :Time;
}

struct UploadOptions {
  expectation @0 :Expectation;
  attributes @1 :Attributes;
  makeParents @2 :Bool;     # Make missing folders on the way, at commit.
  resumeKey @3 :Data;
  # Empty: dropping the upload discards what was staged. Else 1 to 64 bytes chosen by the client, unique for this content
  # at this path: what was staged outlives a broken connection and a restart of either end for Limits.resumeTime. Only
  # the grant that started it can resume it. A second upload with the key of one still open takes over; the first fails.
  expectedSize :union {     # Lets a full disk be noticed before anything is sent. Not a check: that is commit's.
    unknown @4 :Void;
    known @5 :Bytes;
  }
  base @6 :Version;
  # Not null: the version of the file at `path` from which Upload.copyRange may take content (conflict if it is not that).
  run @7 :RunId;
  # Not null: what the commit overwrites goes to the trash under this run, and is part of its undo.
}

interface File {
  # One file, held open for reading. Dropping it closes it.

  stat @0 () -> (outcome :Outcome, entry :Entry) $needs(read);
  # As it is now. `path` is the one it was opened by.

  read @1 (offset :Bytes, count :Bytes) -> (outcome :Outcome, data :Data, atEnd :Bool) $needs(read);
  # Up to `count` bytes from `offset`, at most Limits.read; fewer only when that limit or the end of the file is
  # reached. An offset past the end gives no bytes. `atEnd`: there is nothing after these bytes.

  stream @2 (sink :ByteSink, offset :Bytes, count :Bytes)
      -> (outcome :Outcome, count :Bytes, entry :Entry) $needs(read);
  # Sends `count` bytes from `offset`, fewer if the file ends before (2^64-1 for all of it), to the sink, holes by
  # ByteSink.skip(), then ends the sink. Returns when ByteSink.end() has returned. `count` is what was sent, holes
  # included. `changed` if the file's content changed meanwhile: what was sent may be a mixture then. Dropping the
  # call's promise stops it. A slow sink slows down this stream and nothing else. `entry` is the file as it was sent.
  # At most 256 streams are open on a connection: `limit`.

  digest @3 (algorithm :DigestAlgorithm) -> (outcome :Outcome, digest :Digest, entry :Entry) $needs(read);
  # Of the whole content, read at the server. Errors: changed, invalidArgument, io.

  chunks @4 (offset :Bytes, maxChunks :UInt32)
      -> (outcome :Outcome, chunks :List(Chunk), atEnd :Bool, entry :Entry) $needs(read);
  # The content-defined chunks of the content from `offset` (0, or the end of a chunk answered before), read at the
  # server: up to `maxChunks` (0: as many as 16,384). Equal content is cut alike wherever it stands, so that an inserted
  # byte changes a chunk or two. How it is cut: FastCDC (Xia et al., USENIX ATC 2016) with normalisation level 2, a chunk
  # of 8 KiB to 128 KiB and 32 KiB on average, and the gear table that chunkGearSeed makes: see there. Errors: changed,
  # invalidArgument, io.
}

const chunkGearSeed :UInt64 = 0x43617073746170ff;
# The 256 entries of the gear table are the first outputs of SplitMix64 from this seed. A chunk's hash begins with 0 and
# takes each byte b from the chunk's 8,193rd on as hash = (hash << 1) + gear[b]; the chunk ends after a byte that leaves
# (hash & mask) == 0, with the mask 0xFFFF800000000000 (17 bits) for the first 32 KiB and 0xFFF8000000000000 (13
# bits) after, and at 128 KiB at the latest.

interface ByteSink {
  # Takes a sequence of bytes in order. Calls may be sent without waiting for the ones before; the capability's
  # flow control limits how much is in flight. If one of the streaming calls fails, it throws, and all later ones do;
  # `end` and Upload.commit then answer why, or, where the implementation lets Cap'n Proto break the whole capability,
  # throw the same. The exception's description is "[CODE] sentence", the code as in "no-space", where the reason is an
  # Error.

  write @0 (data :Data) -> stream $needs(nothing);
  # At most Limits.message less 64 KiB; Limits.writeChunk serves best.

  skip @1 (count :Bytes) -> stream $needs(nothing);
  # `count` bytes that are zero. A receiver that can leaves a hole.

  end @2 () -> (outcome :Outcome) $needs(nothing);
  # All bytes were sent. Returns when the receiver has taken them. What is dropped without `end` was cut off.
}

interface Upload extends(ByteSink) {
  # Content that is staged at the server and becomes a file at commit. `end` says that everything so far is staged (not
  # durable); it is not needed before `commit`, and more may be written after it. Dropping the Upload discards what was
  # staged, unless it has a resume key.

  commit @0 (check :ContentCheck) -> (outcome :Outcome, entry :Entry) $needs(write);
  # Makes the staged bytes the file at the path, in one step: each reader sees the old content or the new, whole. Returns
  # when that is durable. Flushes are shared between commits in flight, on all connections. After an error nothing is
  # changed at the path; after `exists`, `conflict` or `noSpace` commit may be called again, after `corrupt` what was
  # staged is discarded. After success all further calls fail.
  # Errors: corrupt, exists, conflict, notFound (parent), notDirectory, isDirectory, denied, noSpace, quota, io.

  discard @1 () -> (outcome :Outcome) $needs(write);
  # Throws away what was staged, also with a resume key. Returns when it is gone.

  copyRange @2 (offset :Bytes, count :Bytes) -> stream $needs(write);
  # The next bytes are these of the base version (UploadOptions.base), copied at the server, holes as holes. Mixes freely
  # with `write` and `skip`: that is how a difference travels. Throws `conflict` if the base was changed meanwhile,
  # `invalidArgument` if there is none or the range is not within it.
}
