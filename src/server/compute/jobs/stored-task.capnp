@0xc823a2cd01aa9f49;
# How a job's journal keeps a task: private to the server, and no part of the protocol. Fields keep their numbers, so
# that a later version reads what an earlier one left. Numbers of enums are those of schema/compute.capnp.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("capstan::server::compute::stored");

struct Task {
  kind @0 :UInt16;
  operands @1 :List(Operand);
  sort @2 :Sort;
  output :union {
    keep @3 :Void;
    file @4 :Output;
  }
  label @5 :Data;
}

struct Operand {
  union {
    unset @0 :Void;
    int @1 :Int64;
    float @2 :Float64;
    inline @3 :Inline;
    inputFile @4 :InputFile;
    served @5 :Served;
  }
}

struct Inline {
  type @0 :UInt16;
  encoding @1 :UInt16;
  bytes @2 :Data;
}

struct InputFile {
  name @0 :Data;
  type @1 :UInt16;
  encoding @2 :UInt16;
  count @3 :UInt64;
  bytes @4 :UInt64;
  single @5 :Bool;
}

struct Served {
  path @0 :Data;
  version @1 :Data;
  type @2 :UInt16;
  encoding @3 :UInt16;
  top @4 :Data;
}

struct Sort {
  descending @0 :Bool;
  unique @1 :Bool;
  type @2 :UInt16;
  field @3 :UInt32;
  separator :union {
    blanks @4 :Void;
    byte @5 :UInt8;
  }
  memory @6 :UInt64;
}

struct Output {
  path @0 :Data;
  expectation :union {
    any @1 :Void;
    absent @2 :Void;
    version @3 :Data;
  }
  mode :union {
    keep @4 :Void;
    set @5 :UInt32;
  }
  mtime :union {
    keep @6 :Void;
    set @7 :Int64;
  }
  makeParents @8 :Bool;
  encoding @9 :UInt16;
  top @10 :Data;
}
