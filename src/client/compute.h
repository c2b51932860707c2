// What computing is told and what it tells: inputs, options, results, jobs. Plain types, but for the sources and sinks
// of streams; the methods are Client's and BlockingClient's. schema/compute.capnp says what each computation does.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/base/number.h>
#include <capstan/client/transfer-types.h>

namespace capstan::client {

// Literals travel in the message up to about a MiB, as a stream above that. Texts hold no newlines.
using Elements = std::variant<std::vector<int64_t>, std::vector<double>, std::vector<std::string>>;

ElementType typeOf(const Elements& elements);

// A file in the remote tree, which is read where it is: nothing of it passes through the client.
struct RemoteInput {
  std::string path;
  ElementType type = ElementType::TEXT;
  Encoding encoding = Encoding::LINES;
};

// Content that is streamed to the server as it is read. `source` must stay valid until the call's promise resolves. It
// cannot be read a second time, so a connection that breaks is an error.
struct StreamedInput {
  ByteProducer* source = nullptr;
  ElementType type = ElementType::TEXT;
  Encoding encoding = Encoding::LINES;
};

using ComputeInput = std::variant<Elements, RemoteInput, StreamedInput>;

// As SortOptions in the schema.
struct SortSettings {
  bool descending = false;
  bool unique = false;
  ElementType type = ElementType::UNSET;  // what the keys are; UNSET: what the input is
  uint32_t field = 0;                     // counted from 1; 0: the whole line
  std::optional<char> separator;          // between fields; none: runs of blanks and tabs
  uint64_t memory = 0;                    // bytes; 0: the server's limit
};

// The numbers of Reduction in the schema.
enum class Reduction : uint16_t { UNSET, SUM, MIN, MAX, COUNT };

struct Addition {
  std::vector<Number> numbers;  // two or more
};
struct Sorting {
  ComputeInput input;
  SortSettings settings = {};
};
struct Reducing {
  ComputeInput input;
  Reduction reduction = Reduction::SUM;
};
using Computation = std::variant<Addition, Sorting, Reducing>;

// As ValueInfo in the schema.
struct ValueInfo {
  ElementType type = ElementType::UNSET;
  uint64_t count = 0;   // elements
  bool single = false;  // one number rather than a list
  Encoding encoding = Encoding::UNSET;
  uint64_t bytes = 0;  // in that encoding
};

// How far a computation is, in units of its own, out of so many (0: not known yet; it may grow).
using OnWork = std::function<void(uint64_t done, uint64_t total)>;

struct ComputedValue {
  ValueInfo info;
  Elements elements;
};

// The numbers of the same enums in the schema.
enum class JobState : uint16_t { UNSET, QUEUED, RUNNING, DONE, FAILED, CANCELLED };
enum class JobKind : uint16_t { UNSET, ADD, SORT, SUM, MIN, MAX, COUNT };

// "queued", "running" and so on; "unknown" for what a newer server may say.
std::string_view name(JobState state);
// "add", "sort", "sum" and so on.
std::string_view name(JobKind kind);

struct JobStatus {
  std::string id;
  JobState state = JobState::UNSET;
  JobKind kind = JobKind::UNSET;
  std::string label;
  int64_t submitted = 0;                 // nanoseconds since the epoch, as the next three; 0: not yet
  int64_t started = 0;                   // the last time
  int64_t ended = 0;                     //
  int64_t expires = 0;                   // when job and result will be forgotten
  uint64_t workDone = 0, workTotal = 0;  // in units of the job's own; a total of 0: not known yet
  std::optional<ValueInfo> result;       // if it is done
  std::optional<Error> error;            // if it failed
  std::string output;                    // the remote path where the result is stored; empty: kept with the job
  uint32_t starts = 0;                   // more than one: a server died over it

  bool hasEnded() const { return state == JobState::DONE || state == JobState::FAILED || state == JobState::CANCELLED; }
};

// What becomes of a job's result. Of `upload` counts what concerns one file: expectation, attributes, makeParents.
struct JobSettings {
  std::string label;                // for people, at most 64 characters
  std::optional<std::string> path;  // stored there when the job ends, else kept with the job
  UploadSettings upload;
  Encoding encoding = Encoding::UNSET;  // of the file; UNSET: numbers given as lines stay as written, else LINES
};

}  // namespace capstan::client
