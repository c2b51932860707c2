// Upload: what a client sends becomes a file at commit. The loop only takes the bytes; they are stored by jobs on the
// pool.
#pragma once

#include <capstan/server/access/guarded.h>
#include <capstan/server/files/folder-state.h>
#include <capstan/server/files/piece-queue.h>
#include <capstan/server/files/slot.h>
#include <capstan/server/files/view.h>
#include <capstan/storage/committer.h>
#include <capstan/storage/staged-content.h>

namespace capstan::server::files {

// Where an upload goes, and how.
struct UploadTarget {
  std::string path;
  Expectation expectation;
  Attributes attributes;
  bool makeParents = false;
  Version base;                 // of which copyRange may take content; empty: of nothing
  std::string run;              // that takes in what is overwritten; empty: none does
  std::string resumeName = {};  // of the file in staging; empty: it is not resumable
};

// Belongs to its connection's loop. The folder must outlive it.
class UploadServer final : public Guarded<schema::Upload> {
 public:
  // `staged`: what the content takes already.
  // One with a `resumeName` in its target can be resumed when it is dropped.
  UploadServer(FolderState& folder, std::shared_ptr<const View> view, Slot slot, UploadTarget target,
               std::shared_ptr<StagedContent> content, Meters::Charge staged);
  ~UploadServer() noexcept(false);

 protected:
  kj::Promise<void> write(WriteContext context) override;
  kj::Promise<void> skip(SkipContext context) override;
  kj::Promise<void> end(EndContext context) override;
  kj::Promise<void> commit(CommitContext context) override;
  kj::Promise<void> discard(DiscardContext context) override;
  kj::Promise<void> copyRange(CopyRangeContext context) override;

 private:
  enum class State { OPEN, COMMITTING, COMMITTED, DISCARDED };

  // Why the upload cannot be used (any more), if so.
  kj::Maybe<Error> refusal() const;
  Error withPath(Error error) const;
  // Counts what is about to be staged.
  kj::Maybe<Error> overLimit(uint64_t bytes);

  // What is ready to be put into its place.
  struct Sealed {
    bool flushed = false;
    std::shared_ptr<Run> run;
  };
  kj::Promise<Result<Sealed>> seal();
  kj::Promise<Result<Entry>> store(Committer::Ticket ticket, ContentCheck check);
  kj::Promise<Status> discardContent();

  // constant after construction
  FolderState& folder;
  const std::shared_ptr<const View> view;
  Slot slot;
  const UploadTarget target;
  const std::shared_ptr<StagedContent> content;

  // owned by the loop
  State state = State::OPEN;
  Meters::Charge stagedBytes;
  uint64_t skipped = 0;      // bytes of holes
  kj::Maybe<Error> tooMuch;  // was sent: nothing more is taken, nor committed
  PieceQueue pieces;         // its error names the path
};

}  // namespace capstan::server::files
