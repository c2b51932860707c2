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
using import "common.capnp".Version;
using import "common.capnp".Outcome;

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

interface FileStore {
  # A tree of folders, files and symlinks. Symlinks on the way to a path are followed as long as they stay inside the
  # tree; a link that leads out is `invalidPath`. The last name of a path is followed by `open` only (and by `stat` on
  # request): all other methods work on the link itself.

  stat @0 (path :Path, follow :Bool) -> (outcome :Outcome, entry :Entry);
  # Errors: notFound, notDirectory, invalidPath, denied.

  list @1 (path :Path, recursive :Bool, cursor :Data, maxEntries :UInt32)
      -> (outcome :Outcome, entries :List(Entry), cursor :Data, atEnd :Bool);
  # The entries below a folder, without the folder itself, in the order of their names' bytes; recursive: each folder
  # followed by what is in it. Symlinks are listed, not entered. Pages: an empty `cursor` starts; the answered one
  # goes on, until `atEnd`. A page may be shorter than `maxEntries` (0: as many as Limits.listEntries). What is there
  # during the whole listing appears exactly once, whatever else comes and goes meanwhile; a cursor does not expire and
  # works on another connection too. A folder that may not be read is `denied`; below a recursive listing such a folder
  # is listed itself, without what is in it. Errors: notFound, notDirectory, invalidPath, denied, invalidArgument.

  open @2 (path :Path) -> (outcome :Outcome, file :File);
  # A file for reading. It stays what it was: a later rename, removal or replacement of the path does not change it
  # (only a program that writes into the same file does). Costs a descriptor at the server until it is dropped.
  # Errors: notFound, isDirectory, invalidPath, denied, limit, unsupported.

  create @3 (path :Path, options :UploadOptions) -> (outcome :Outcome, upload :Upload, offset :Bytes);
  # Starts an upload that will become the file at `path`. Nothing is visible there before Upload.commit(). `offset` is
  # how much of an earlier upload with the same resume key is there already: go on from that byte.
  # The expectation is looked at here, to fail early, and again at commit, where it counts.
  # Errors: notFound (parent), exists, conflict, notDirectory, isDirectory, invalidPath, denied, noSpace, limit.

  put @4 (path :Path, content :Data, options :UploadOptions, check :ContentCheck) -> (outcome :Outcome, entry :Entry);
  # create, write and commit in one call, for content of at most Limits.put bytes. `resumeKey` is not used. Returns when
  # the file is durable. Errors: those of create and commit, tooLarge.

  makeDirectory @5 (path :Path, attributes :Attributes, parents :Bool) -> (outcome :Outcome, entry :Entry);
  # A new folder. `parents` makes the missing folders on the way too, and is content with a folder that is there
  # already (whose metadata is then left alone). Durable when it returns. Errors: exists, notFound, notDirectory, ...

  symlink @6 (path :Path, target :Data, expectation :Expectation, attributes :Attributes, makeParents :Bool)
      -> (outcome :Outcome, entry :Entry);
  # A symlink that holds `target` as it is given, 1 to 4,095 bytes without NUL; it may point nowhere or outside, and is
  # then kept but never followed. Replaces a file or symlink, not a folder. Mode is ignored. Durable when it returns.

  setMetadata @7 (path :Path, attributes :Attributes, expectation :Expectation) -> (outcome :Outcome, entry :Entry);
  # Durable when it returns. The expectation is checked, then the attributes are set: a change made beside the server in
  # between goes unnoticed. `absent` is `invalidArgument`. The mode of a symlink cannot be set.

  rename @8 (from :Path, to :Path, fromExpectation :Expectation, toExpectation :Expectation, makeParents :Bool)
      -> (outcome :Outcome, entry :Entry);
  # Moves a file, folder or symlink in one step; there is no moment when neither path, or a mixture, is there. A file or
  # symlink at `to` is replaced, an empty folder is replaced by a folder; otherwise notEmpty, isDirectory or
  # notDirectory. Durable when it returns. `entry` is what is at `to` now.
  # A folder cannot be moved into itself (invalidArgument).

  copy @9 (from :Path, to :Path, fromExpectation :Expectation, toExpectation :Expectation, makeParents :Bool)
      -> (outcome :Outcome, entry :Entry);
  # Copies at the server: a file, symlink, or folder with all that is in it, with mode and mtime. Shares blocks where the
  # file system can; holes stay holes. The copy appears in one step when it is whole, durable when it returns. Replaces
  # as `rename` does, save that a folder replaces nothing (exists). Dropping the call's promise may stop the copy.

  remove @10 (path :Path, recursive :Bool, expectation :Expectation) -> (outcome :Outcome, entry :Entry);
  # Removes a file, symlink or empty folder; `recursive`: a folder with all that is in it, which vanishes from the tree
  # in one step. Durable when it returns; the space is freed soon after. `entry` is what was removed. The tree itself
  # ("") cannot be removed. `absent` is `invalidArgument`. Errors: notFound, notEmpty, conflict, denied, ...
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
}

interface File {
  # One file, held open for reading. Dropping it closes it.

  stat @0 () -> (outcome :Outcome, entry :Entry);
  # As it is now. `path` is the one it was opened by.

  read @1 (offset :Bytes, count :Bytes) -> (outcome :Outcome, data :Data, atEnd :Bool);
  # Up to `count` bytes from `offset`, at most Limits.read; fewer only when that limit or the end of the file is
  # reached. An offset past the end gives no bytes. `atEnd`: there is nothing after these bytes.

  stream @2 (sink :ByteSink, offset :Bytes, count :Bytes) -> (outcome :Outcome, count :Bytes, entry :Entry);
  # Sends `count` bytes from `offset`, fewer if the file ends before (2^64-1 for all of it), to the sink, holes by
  # ByteSink.skip(), then ends the sink. Returns when ByteSink.end() has returned. `count` is what was sent, holes
  # included. `changed` if the file's content changed meanwhile: what was sent may be a mixture then. Dropping the
  # call's promise stops it. A slow sink slows down this stream and nothing else. `entry` is the file as it was sent.
  # At most 256 streams are open on a connection: `limit`.

  digest @3 (algorithm :DigestAlgorithm) -> (outcome :Outcome, digest :Digest, entry :Entry);
  # Of the whole content, read at the server. Errors: changed, invalidArgument, io.
}

interface ByteSink {
  # Takes a sequence of bytes in order. Calls may be sent without waiting for the ones before; the capability's
  # flow control limits how much is in flight. If one of the streaming calls fails, it throws, and all later ones do;
  # `end` and Upload.commit then answer why, or, where the implementation lets Cap'n Proto break the whole capability,
  # throw the same. The exception's description is "[CODE] sentence", the code as in "no-space", where the reason is an
  # Error.

  write @0 (data :Data) -> stream;
  # At most Limits.message less 64 KiB; Limits.writeChunk serves best.

  skip @1 (count :Bytes) -> stream;
  # `count` bytes that are zero. A receiver that can leaves a hole.

  end @2 () -> (outcome :Outcome);
  # All bytes were sent. Returns when the receiver has taken them. What is dropped without `end` was cut off.
}

interface Upload extends(ByteSink) {
  # Content that is staged at the server and becomes a file at commit. `end` says that everything so far is staged (not
  # durable); it is not needed before `commit`, and more may be written after it. Dropping the Upload discards what was
  # staged, unless it has a resume key.

  commit @0 (check :ContentCheck) -> (outcome :Outcome, entry :Entry);
  # Makes the staged bytes the file at the path, in one step: each reader sees the old content or the new, whole. Returns
  # when that is durable. Flushes are shared between commits in flight, on all connections. After an error nothing is
  # changed at the path; after `exists`, `conflict` or `noSpace` commit may be called again, after `corrupt` what was
  # staged is discarded. After success all further calls fail.
  # Errors: corrupt, exists, conflict, notFound (parent), notDirectory, isDirectory, denied, noSpace, quota, io.

  discard @1 () -> (outcome :Outcome);
  # Throws away what was staged, also with a resume key. Returns when it is gone.
}
