// A task as a job's journal has it: whole by itself, without capabilities, so that any later process can begin it
// again.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <capstan/base/entry.h>
#include <capstan/server/compute/content.h>
#include <capstan/server/compute/sort/sort.h>

namespace capstan::server::compute {

// The numbers of JobKind in schema/compute.capnp.
enum class JobKind : uint16_t { UNSET, ADD, SORT, SUM, MIN, MAX, COUNT };

// Content that was taken over at submit.
struct InlineContent {  // small
  ElementType type;
  Encoding encoding;
  std::string bytes;
};
struct InputFile {  // a file of the spool, which belongs to the job and goes with it; flushed
  std::string name;
  ContentInfo info;
};
// A file of the served folder, which must still be of this version when the job begins.
struct ServedInput {
  std::string path;  // relative to `top`
  Version version;
  ElementType type;
  Encoding encoding;
  std::string top = {};  // of the tree that it was opened in, and is looked for again: a path from the served folder
};
using StoredOperand = std::variant<Number, InlineContent, InputFile, ServedInput>;

struct StoredOutput {
  std::string path;  // relative to `top`
  Expectation expectation;
  Attributes attributes;
  bool makeParents = false;
  Encoding encoding = Encoding::UNSET;
  std::string top = {};  // of the tree that it is stored in, out of which nothing leads; a path from the served folder
};

struct StoredTask {
  JobKind kind = JobKind::UNSET;
  std::vector<StoredOperand> operands;  // two or more numbers for ADD, else one
  SortOptions sort;                     // SORT only
  std::optional<StoredOutput> output;
  std::string label;
};

// To bytes and back. The bytes are a Cap'n Proto message (stored-task.capnp), so that later versions read earlier
// ones'.
std::string serialize(const StoredTask& task);
// Errors: corrupt, for whatever is no such message; never throws.
Result<StoredTask> parseStoredTask(std::string_view bytes);
// What two submits with one idempotency key have to have in common: SHA-256 over the task, with input files by their
// content's digest. A file of the served folder counts by its path: that it was changed between a submit and its
// repetition does not make another task of it. Blocks; ends soon when `stop` is set. Errors: those of reading the input
// files; cancelled.
Result<std::string> fingerprint(const StoredTask& task, const Spool& spool, const std::atomic<bool>& stop);

// Whether it has as many operands as its kind wants.
bool isComplete(const StoredTask& task);
// The names of the spool files that belong to the task.
std::vector<std::string> inputFilesOf(const StoredTask& task);
uint64_t inputBytesOf(const StoredTask& task);

}  // namespace capstan::server::compute
