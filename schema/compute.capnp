@0xaad7b8ef85f9bf32;
# Compute: adding, sorting and summing up values, given in the call, stored on the server, or computed by calls before;
# at once, or as jobs that outlive connection and server.
#
# What is computed is a Value. It is answered before it is computed, so that it can be an operand of the next call, be
# read or be stored, all in one round trip. A Value that cannot be computed answers the same Error to each of its
# methods, and so does every Value that depends on it; nothing else is harmed. Dropping a Value that nobody else needs
# ends its computation within 100 ms.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("capstan::schema");

using import "common.capnp".Bytes;
using import "common.capnp".Path;
using import "common.capnp".Time;
using import "common.capnp".Nanoseconds;
using import "common.capnp".Error;
using import "common.capnp".Outcome;
using import "access.capnp".needs;
using import "files.capnp".Entry;
using import "files.capnp".File;
using import "files.capnp".FileStore;
using import "files.capnp".ByteSink;
using import "files.capnp".Upload;
using import "files.capnp".UploadOptions;

enum ElementType {
  unset @0;
  int @1;     # 64 bits, signed.
  float @2;   # IEEE 754 binary64. NaN is a value, and sorts behind all others; -0.0 sorts before 0.0 (but see SortOptions).
  text @3;    # Bytes without newline; sorted by their values as unsigned numbers, a prefix first.
}

enum Encoding {
  # How elements are written as bytes, in files and streams.

  unset @0;   # Where there is a choice: as it is.
  lines @1;
  # One element per line, ended by '\n' (which may be missing behind the last). Numbers in decimal: a sign, digits, for
  # `float` a point and an exponent too, "inf", "nan" in any case; blanks and '\r' around them are allowed. An empty
  # line is no number.
  binary @2;
  # `int` and `float` only: 8 bytes each, little-endian.
}

struct Elements {
  union {
    ints @0 :List(Int64);
    floats @1 :List(Float64);
    texts @2 :List(Data);
  }
}

struct Operand {
  # What is computed on.

  union {
    int @0 :Int64;
    float @1 :Float64;
    elements @2 :Elements;
    value @3 :Value;
    # Also one that is not computed yet, and one of another server, which is read through its capability. A value of this
    # connection has to be one of an earlier call: nothing can depend on itself.
    file @4 :StoredElements;
  }
}

struct StoredElements {
  # A file's content, read where it is: nothing of it passes through the client. A file that changes while it is read
  # ends the computation with `changed`. A File of another server is read through its capability.
  file @0 :File;
  type @1 :ElementType;
  encoding @2 :Encoding;  # `unset` means `lines`.
}

struct SortOptions {
  descending @0 :Bool;
  # The reverse of ascending, but for NaN, which is last in either case.

  unique @1 :Bool;
  # Of elements with equal keys, only the first of the input is kept.

  type @2 :ElementType;
  # What the keys are; `unset`: what the input is. Lines of text may so be sorted as numbers: they stay as they are
  # written ("007"), equal keys (0.0 and -0.0 too) are ordered by the bytes of their lines (unless `unique`), and a line
  # without a number ends the sort with `invalidArgument`, which names the line.

  field @3 :UInt32;
  # Lines only: sort by this field of each line, counted from 1; 0: by the whole line. A line that has not as many
  # fields has an empty one there, which is no number.

  separator @4 :Data;
  # One byte between fields; empty: runs of blanks and tabs, those before the first field left out.

  memory @5 :Bytes;
  # What the sort may use before it goes to disk; 0: Limits.sortMemory, which is also the most.
}

enum Reduction {
  unset @0;
  sum @1;     # As add() does; of no elements 0.
  min @2;     # Of floats with a NaN among them: NaN. Of no elements: invalidArgument.
  max @3;
  count @4;   # An int.
}

interface Compute {
  # A place to compute, got from Session.compute(). Calls return at once unless they say otherwise.

  add @0 (operands :List(Operand)) -> (outcome :Outcome, value :Value) $needs(compute);
  # The sum of two or more single numbers. All ints: an int, exact, and an error that names the operands if it does not
  # fit in 64 bits. With a float among them: each is converted to the nearest float, and they are added from left to
  # right. Errors: invalidArgument (fewer than two, a list, text), limit (more than 4,096).

  sort @1 (input :Operand, options :SortOptions) -> (outcome :Outcome, value :Value) $needs(compute);
  # The elements in order. What is larger than memory is sorted on disk. Errors of the Value: invalidArgument, changed,
  # noSpace, quota, tooLarge (a line), io.

  reduce @2 (input :Operand, operation :Reduction) -> (outcome :Outcome, value :Value) $needs(compute);
  # One number out of many.

  collect @3 (type :ElementType, encoding :Encoding)
      -> (outcome :Outcome, sink :ByteSink, value :Value) $needs(compute);
  # A literal that is larger than a message: `value` is what is written to `sink` until its end(). What is dropped
  # without end() gives a Value with the error `cancelled`. What is no number is noticed when the Value is used.

  submit @4 (task :Task, idempotencyKey :Data) -> (outcome :Outcome, job :Job, id :Text) $needs(compute);
  # Starts a job: it outlives the connection and the server. Returns when it is durable: from then on it ends in exactly
  # one of `done`, `failed` and `cancelled`, whatever dies. Operands are taken over before that: Values are waited for
  # and kept, files of this server are remembered by path and version (a job that finds another version when it begins
  # ends with `changed`), files of other servers are copied.
  # `idempotencyKey`, 1 to 64 bytes chosen by the client, makes that a repeated submit is answered with the job that is
  # there already, as long as it is kept; with the same key and another task it is a `conflict`. Empty: always a new job.
  # Errors: those of the operands, limit (too many jobs queued or kept), noSpace, invalidArgument.

  find @5 (id :Text) -> (outcome :Outcome, job :Job) $needs(compute);
  # A job of the same grant, whoever submitted it. Errors: notFound; expired (it was known once).

  list @6 (cursor :Data, maxEntries :UInt32)
      -> (outcome :Outcome, jobs :List(JobStatus), cursor :Data, atEnd :Bool) $needs(compute);
  # The grant's jobs, the latest first, in pages as FileStore.list() has them. Forgotten ones are not listed.
}

struct ValueInfo {
  type @0 :ElementType;
  count @1 :UInt64;       # Elements.
  single @2 :Bool;        # It is one number, not a list that may happen to hold one.
  encoding @3 :Encoding;  # How the server has it.
  bytes @4 :Bytes;        # In that encoding.
}

interface Value {
  # What a computation gives. Each method but `progress` waits until that is there.

  describe @0 () -> (outcome :Outcome, info :ValueInfo) $needs(compute);

  read @1 (first :UInt64, count :UInt64)
      -> (outcome :Outcome, elements :Elements, info :ValueInfo, atEnd :Bool) $needs(compute);
  # The elements from index `first` on, `count` of them (0: all). With `count` 0 it is `tooLarge` if they do not fit into
  # a message (Limits.read); with another, as many as fit. `atEnd`: there are none behind them.

  stream @2 (sink :ByteSink, encoding :Encoding) -> (outcome :Outcome, info :ValueInfo) $needs(compute);
  # All of it, then ends the sink. `unset`: numbers that were given as lines come as they were written; all else comes
  # as `lines`. Dropping the call's promise stops it. Errors: unsupported (text as binary).

  save @3 (upload :Upload, encoding :Encoding) -> (outcome :Outcome, entry :Entry) $needs(compute);
  # Writes all of it into the upload, as `stream` does, and commits it. Nothing passes through the client if the upload is
  # one of this server. Returns when the file is durable. Dropping the call's promise stops it, unless it is committing
  # already. Errors: those of stream and of Upload.commit.

  progress @4 () -> (outcome :Outcome, done :UInt64, total :UInt64, ready :Bool) $needs(compute);
  # How far the computation is: `done` units of its own out of `total` (0: not known yet; it may grow). Returns at once.
}

struct Task {
  # What a job does.

  union {
    add @0 :List(Operand);
    sort :group {
      input @1 :Operand;
      options @2 :SortOptions;
    }
    reduce :group {
      reduced @3 :Operand;
      operation @4 :Reduction;
    }
  }
  output :union {
    keep @5 :Void;        # The result is kept with the job, to be got by Job.result().
    file @6 :OutputFile;  # It is stored as a file instead.
  }
  label @7 :Text;         # For people, at most 64 characters.
}

struct OutputFile {
  # Where a job stores its result. The file appears in one step and is durable before the job is `done`.
  store @0 :FileStore;          # Of this server.
  path @1 :Path;
  options @2 :UploadOptions;    # Without a resume key.
  encoding @3 :Encoding;
}

enum JobState {
  unset @0;
  queued @1;
  running @2;
  done @3;
  failed @4;
  cancelled @5;
}

enum JobKind {
  unset @0;
  add @1;
  sort @2;
  sum @3;
  min @4;
  max @5;
  count @6;
}

struct JobStatus {
  id @0 :Text;
  state @1 :JobState;
  kind @2 :JobKind;
  label @3 :Text;
  submitted @4 :Time;
  started @5 :Time;       # The last time, if a restart of the server made it begin again; 0: not yet.
  ended @6 :Time;         # 0: not yet.
  expires @7 :Time;       # When the job and its result will be forgotten; 0 while it has not ended.
  workDone @8 :UInt64;    # Progress, in units of the job's own...
  workTotal @9 :UInt64;   # ...out of so many; 0: not known yet. It may grow.
  result @10 :ValueInfo;  # If it is done.
  error @11 :Error;       # If it failed.
  output @12 :Path;       # Where the result is stored, if it is.
  starts @13 :UInt32;     # How often it was begun: more than once only if a server died over it.
}

interface Job {
  # One submitted task. Dropping the capability changes nothing.

  status @0 () -> (outcome :Outcome, status :JobStatus) $needs(compute);

  wait @1 (timeout :Nanoseconds) -> (outcome :Outcome, ended :Bool, status :JobStatus) $needs(compute);
  # Returns when the job has ended, or after `timeout` (0: never). That it did not end in time is no error: see `ended`.

  watch @2 (listener :JobListener) -> (outcome :Outcome, status :JobStatus) $needs(compute);
  # Reports progress to the listener until the job has ended, then returns. At most ten reports a second, and one at a
  # time: what a slow listener misses is left out. Dropping the call's promise ends it.

  cancel @3 () -> (outcome :Outcome, status :JobStatus) $needs(compute);
  # Returns when the job has ended; work on it stops within 100 ms. A job that has been cancelled already is no error; one
  # that ended otherwise is a `conflict`.

  result @4 () -> (outcome :Outcome, value :Value) $needs(compute);
  # The result of a job that is done; waits for the end of one that is not. A job that failed answers its error, one that
  # was cancelled `cancelled`. `expired`: the result was kept for Limits.jobResultTime, or was pushed out by later ones
  # of the same grant. `unsupported`: it was stored as a file, which the error's path names.

  forget @5 () -> (outcome :Outcome) $needs(compute);
  # Removes a job that has ended, and its result. The id answers notFound from then on. Returns when that is durable.
}

interface JobListener {
  report @0 (status :JobStatus) -> () $needs(nothing);
}
