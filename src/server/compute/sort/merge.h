// Merging of sorted runs with a tree of losers (Knuth, The Art of Computer Programming vol. 3, 5.4.1), in as many
// passes as the memory for their buffers asks for.
#pragma once

#include <vector>

#include <capstan/server/compute/sort/in-turns.h>
#include <capstan/server/compute/sort/key-run.h>
#include <capstan/server/compute/sort/run-file.h>

namespace capstan::server::compute {

class Merger {
 public:
  // `form` is how elements of runs of keys come out in the end; those of lines come as lines. All must outlive it.
  Merger(const LineOrder& order, const KeyCode& code, KeyForm form, uint64_t memory, const Spool& spool,
         std::shared_ptr<SpoolAccount> account, Work& work)
      : order(order), code(code), form(form), memory(memory), spool(spool), account(std::move(account)), work(work) {}

  // Runs are in the order of the input: of elements that count as equal, those of an earlier run come first.
  // Errors: those of `append`, noSpace, quota, io, cancelled.
  Status merge(std::vector<Run> runs, const Append& append);
  // Whether so many runs have come together that they should be merged before there are more: each is an open file.
  bool wantsMerging(const std::vector<Run>& runs) const;
  // Does that. Errors as above.
  Status mergeLatest(std::vector<Run>& runs);

 private:
  class Output;

  const LineOrder& order;
  const KeyCode& code;
  const KeyForm form;
  const uint64_t memory;
  const Spool& spool;
  const std::shared_ptr<SpoolAccount> account;
  Work& work;

  size_t bufferBytes(const std::vector<Run>& runs) const;
  size_t fanIn(const std::vector<Run>& runs) const;
  Result<Run> mergeToRun(std::vector<Run> runs);
  Status mergeOnce(const std::vector<Run>& runs, size_t buffer, bool asRun, const Append& append);
  template <bool LINES>
  Status mergeCursors(std::vector<RunCursor>& cursors, Output& output);
};

}  // namespace capstan::server::compute
