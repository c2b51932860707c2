// What one capability sees of the served folder: the tree at and below the top of its Access, with paths relative to
// that. Everything that FileStores, and what is made from them, do with the folder goes this way; nothing else leads
// from them to the root, the committer or the trash. The owner's view of the whole folder costs nothing.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <capstan/server/access/access.h>
#include <capstan/server/files/change-journal.h>
#include <capstan/server/files/folder-state.h>
#include <capstan/server/files/quota.h>
#include <capstan/storage/committer.h>
#include <capstan/storage/modes.h>
#include <capstan/storage/root.h>
#include <capstan/storage/trash.h>

namespace capstan::server::files {

struct ListPage;     // listing.h
struct ListRequest;  // listing.h

// Immutable and thread-safe; shared by capabilities, the jobs that they began, and the mutations that they submitted.
// The folder must outlive it.
class View final : public std::enable_shared_from_this<View> {
 public:
  static std::shared_ptr<const View> of(FolderState& folder, Access& access);
  // The same tree for whoever holds no capability: the server itself.
  static std::shared_ptr<const View> of(FolderState& folder, std::string_view top);
  // `connection`: on whose account, and on whose loop, something is submitted; null: nothing is.
  View(FolderState& folder, std::shared_ptr<const Grant> grant, std::string_view top,
       ConnectionScope* connection = nullptr);
  KJ_DISALLOW_COPY(View);

  // The path of the tree from the served folder.
  const std::string& top() const { return scope.top; }
  const Root& root() const { return *tree; }
  Staging& staging() const;
  // That whoever has it may set.
  storage::ModeMask modes() const { return grant->isOwner() ? storage::ModeMask() : storage::ModeMask::ofOthers(); }
  Disk& disk() const;

  // Of a folder in the tree: the path that leads there without symlinks, by which it can be given to others. Errors:
  // notFound, notDirectory, invalidPath, denied. Blocks.
  Result<std::string> folderAt(std::string_view path) const;

  // A page of the tree. Blocks.
  Result<ListPage> list(const ListRequest& request) const;

  // What a change of the served folder means for those who watch `path` in this tree; nothing: it is none of theirs.
  std::optional<Change> see(Change change, const std::string& path) const;

  // The committer's, for mutations of this tree, whose paths are relative to it. They are carried out with this view's
  // root, unless the grant has ended before their turn comes, or they bring more than its quota lets in.
  Committer::Ticket takeTicket(const ConnectionScope& connection) const;
  kj::Promise<void> turnOf(const Committer::Ticket& ticket) const;
  bool hasPending(const ConnectionScope& connection) const;
  kj::Promise<Result<Entry>> submit(Committer::Ticket ticket, std::unique_ptr<Mutation> mutation,
                                    std::shared_ptr<Run> run = nullptr) const;
  kj::Promise<std::vector<Result<Entry>>> submitAll(Committer::Ticket ticket,
                                                    std::vector<std::unique_ptr<Mutation>> mutations,
                                                    std::shared_ptr<Run> run) const;

  // Runs the job on the pool, in turn. One that answers that something is being measured is run again when it was: that
  // is waited for on the loop. `scope`: of this loop.
  template <typename Job>
  auto run(ConnectionScope& scope, Job job) const -> kj::Promise<decltype(job())> {
    return runShared(kj::addRef(scope), std::make_shared<Job>(std::move(job)), TRIES);
  }

  // Why so many bytes more would be too many, as far as is known; beingMeasured() if that is out of date. Blocks.
  Status mayGrow(uint64_t bytes) const;
  // Why content of so many bytes is too much whatever else is there. Does not block.
  Status mayHold(uint64_t bytes) const;

  // The trash's, for runs that were begun under this grant, or one that was made from it, and for nothing outside of
  // this tree. They block.
  Result<std::shared_ptr<Run>> begin(std::string id, std::string label, std::string client) const;
  // The run with this id, null for an empty one.
  Result<std::shared_ptr<Run>> runOf(const std::string& id, const std::string& client) const;
  Result<std::vector<RunInfo>> runs() const;
  Result<Trash::Page> listTrash(const std::string& run, const std::string& path, const std::string& cursor,
                                size_t max) const;
  Result<std::vector<std::unique_ptr<Mutation>>> undo(const std::string& run, std::shared_ptr<Run> under) const;
  Result<std::unique_ptr<Mutation>> restore(const std::string& run, const std::string& path,
                                            const std::string& to) const;
  Result<uint64_t> emptyTrash(uint64_t olderThan) const;

 private:
  FolderState& folder;
  ConnectionScope* const connection;  // there as long as somebody submits something; see the constructor
  const std::shared_ptr<const Grant> grant;
  const RunScope scope;
  const std::unique_ptr<Root> ownRoot;  // null: it is the served folder
  const Root* const tree;
  const std::vector<Quota> quotas;

  // Nothing is withheld from whoever has it: mutations are carried out as they are.
  bool isWhole() const { return grant->isOwner() && ownRoot == nullptr; }
  std::unique_ptr<Mutation> guarded(std::unique_ptr<Mutation> mutation) const;
  // Measures what the quotas need to be known of, if there are any.
  Status prepareQuotas(const std::vector<std::unique_ptr<Mutation>>& mutations) const;

  static constexpr unsigned TRIES = 4;
  // Answers nothing if the error is of another kind.
  kj::Maybe<kj::Promise<void>> whenMeasured(const Error& error) const;
  template <typename Job>
  auto runShared(kj::Own<ConnectionScope> scope, std::shared_ptr<Job> job, unsigned tries) const
      -> kj::Promise<decltype((*job)())>;
};

template <typename Job>
auto View::runShared(kj::Own<ConnectionScope> scope, std::shared_ptr<Job> job, unsigned tries) const
    -> kj::Promise<decltype((*job)())> {
  using Answer = decltype((*job)());
  auto& connection = *scope;
  return folder.run(connection, [job]() { return (*job)(); })
      .then([self = shared_from_this(), scope = kj::mv(scope), job,
             tries](Answer answer) mutable -> kj::Promise<Answer> {
        if (answer.ok() || tries <= 1 || scope->gone) return kj::mv(answer);
        KJ_IF_MAYBE (measured, self->whenMeasured(answer.error())) {
          return measured->then([self = kj::mv(self), scope = kj::mv(scope), job = std::move(job), tries]() mutable {
            return self->runShared(kj::mv(scope), std::move(job), tries - 1);
          });
        }
        return kj::mv(answer);
      });
}

}  // namespace capstan::server::files
