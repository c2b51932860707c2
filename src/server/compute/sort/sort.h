// Sorting of elements from any source, beyond memory where needed, with the kernels of sort-kernel.h and an external
// merge sort (Knuth, The Art of Computer Programming vol. 3, 5.4). Knows no RPC.
#pragma once

#include <memory>
#include <optional>

#include <capstan/base/error.h>
#include <capstan/server/compute/content.h>
#include <capstan/server/compute/source.h>
#include <capstan/server/compute/work.h>

namespace capstan::server::compute {

inline constexpr uint64_t DEFAULT_SORT_MEMORY = 256 << 20;
inline constexpr uint64_t LEAST_SORT_MEMORY = 1 << 20;

// As SortOptions in schema/compute.capnp has them.
struct SortOptions {
  bool descending = false;
  bool unique = false;
  ElementType type = ElementType::UNSET;
  uint32_t field = 0;
  std::optional<char> separator;  // nothing: runs of blanks
  uint64_t memory = DEFAULT_SORT_MEMORY;
};

// Whether the options fit the input; `invalidArgument` if not (a field of binary input, text in binary, binary input
// sorted as another type, newlines between fields). sortElements() asks it too.
Status checkSort(ElementType inputType, Encoding inputEncoding, const SortOptions& options);

// Where a result goes, and what a sort may use. `spool` must outlive the call.
struct Workspace {
  const Spool& spool;
  std::shared_ptr<SpoolAccount> account;  // runs and result are charged to it; may be null
  std::unique_ptr<SpoolFile> result;      // where the result has to be, if it matters; not flushed
  unsigned threads = 2;
};

// Sorts all of `source`. Floats: -0.0 and 0.0 are different keys in BINARY, -0.0 the smaller one; in LINES they are
// equal keys, and their lines are ordered by their bytes as those of all equal keys are. All NaNs are equal, and BINARY
// ones come out as the one quiet NaN; in LINES they stay as they are written. BINARY input gives BINARY output, LINES
// gives LINES (of the input's type, or of options.type if that is a number and the key is the whole line).
// `workspace.threads` threads compute at the same time, the calling one among them; they end before this returns. Uses
// about options.memory of memory. work.total is set and work.done advanced. Stops within 50 ms of work.stop. Errors:
// invalidArgument (names the line), changed, tooLarge (a line of more than an eighth of the memory, or 16 MiB),
// noSpace, quota, io, cancelled, overloaded (no memory).
Result<std::shared_ptr<const Content>> sortElements(Source& source, const SortOptions& options, Workspace workspace,
                                                    Work& work);

}  // namespace capstan::server::compute
