#include <capstan/server/files/view.h>

#include <fcntl.h>

#include <algorithm>

#include <kj/debug.h>
#include <kj/vector.h>

#include <capstan/base/path.h>
#include <capstan/base/saturating.h>
#include <capstan/server/files/granted-mutation.h>
#include <capstan/server/files/listing.h>
#include <capstan/server/files/notices.h>
#include <capstan/server/files/repeat.h>
#include <capstan/storage/beneath.h>
#include <capstan/storage/mutation.h>
#include <capstan/storage/run.h>

namespace capstan::server::files {

namespace {

using Mutations = std::vector<std::unique_ptr<Mutation>>;
using Results = std::vector<Result<Entry>>;

std::unique_ptr<Root> rootAt(const Root& served, std::string_view top) {
  return top.empty() ? nullptr : storage::newRootBeneath(served, top);
}

}  // namespace

std::shared_ptr<const View> View::of(FolderState& folder, Access& access) {
  return std::make_shared<const View>(folder, access.lease->grant, access.top, &access.connection());
}

std::shared_ptr<const View> View::of(FolderState& folder, std::string_view top) {
  return std::make_shared<const View>(folder, Grant::newOwner(), top);
}

View::View(FolderState& folder, std::shared_ptr<const Grant> grantParam, std::string_view top,
           ConnectionScope* connection)
    : folder(folder),
      connection(connection),
      grant(std::move(grantParam)),
      scope{holderOf(*grant), std::string(top)},
      ownRoot(rootAt(*folder.root, top)),
      tree(ownRoot == nullptr ? folder.root : ownRoot.get()),
      quotas(folder.quotas->of(*grant)) {}

Staging& View::staging() const { return *folder.staging; }

Disk& View::disk() const { return folder.committer->disk(); }

Result<std::string> View::folderAt(std::string_view path) const {
  auto canonical = tree->canonical(path);
  if (!canonical.ok()) return canonical;
  auto opened = tree->open(*canonical, O_PATH | O_DIRECTORY, Follow::NEVER);
  if (!opened.ok()) return Error{opened.error().code, opened.error().message, std::string(path)};
  return canonical;
}

Result<ListPage> View::list(const ListRequest& request) const {
  return folder.listings->page(*tree, scope.holder + '\0' + scope.top, request);
}

std::optional<Change> View::see(Change change, const std::string& path) const {
  auto mine = narrowed(std::move(change), joinPath(scope.top, path));
  if (!mine || scope.top.empty()) return mine;
  mine->path = storage::pathBeneath(mine->path, scope.top);
  if (mine->kind == ChangeKind::MOVED) mine->from = storage::pathBeneath(mine->from, scope.top);
  return mine;
}

Committer::Ticket View::takeTicket(const ConnectionScope& connection) const {
  return folder.committer->takeTicket(&connection);
}

kj::Promise<void> View::turnOf(const Committer::Ticket& ticket) const { return folder.committer->turnOf(ticket); }

bool View::hasPending(const ConnectionScope& connection) const { return folder.committer->hasPending(&connection); }

std::unique_ptr<Mutation> View::guarded(std::unique_ptr<Mutation> mutation) const {
  if (isWhole()) return mutation;
  return std::make_unique<GrantedMutation>(std::move(mutation), shared_from_this(), *tree, scope.top, *grant, quotas);
}

kj::Promise<Result<Entry>> View::submit(Committer::Ticket ticket, std::unique_ptr<Mutation> mutation,
                                        std::shared_ptr<Run> run) const {
  if (run == nullptr && quotas.empty()) return folder.committer->submit(kj::mv(ticket), guarded(std::move(mutation)));
  Mutations one;
  one.push_back(std::move(mutation));
  return submitAll(kj::mv(ticket), std::move(one), std::move(run)).then([](Results results) {
    return std::move(results[0]);
  });
}

kj::Promise<Results> View::submitAll(Committer::Ticket ticket, Mutations mutations, std::shared_ptr<Run> run) const {
  if (quotas.empty()) {
    for (auto& mutation : mutations) mutation = guarded(std::move(mutation));
    return folder.committer->submitAll(kj::mv(ticket), std::move(mutations), std::move(run));
  }
  // Shared with the jobs, which may go on when nobody waits any more.
  auto all = std::make_shared<Mutations>(std::move(mutations));
  // Slice by slice: how much comes back from the trash may take long to see.
  auto measure = [all, next = std::make_shared<size_t>(0)](size_t budget) -> Result<bool> {
    while (*next < all->size() && (*all)[*next]->measure(budget)) ++*next;
    return *next == all->size();
  };
  auto step = [measure]() { return measure(storage::ContentWalk::SLICE); };
  auto prepare = [self = shared_from_this(), all]() { return self->prepareQuotas(*all); };
  KJ_REQUIRE(connection != nullptr, "a view without a connection submits nothing");
  auto measured = *measure(0) ? kj::Promise<Status>(okStatus()) : repeat(folder, *connection, step);
  return measured
      .then([self = shared_from_this(), prepare](Status status) -> kj::Promise<Status> {
        return status.ok() ? self->run(*self->connection, prepare) : kj::Promise<Status>(kj::mv(status));
      })
      .then([self = shared_from_this(), all, run = std::move(run),
             ticket = kj::mv(ticket)](Status status) mutable -> kj::Promise<Results> {
        if (!status.ok()) return Results(all->size(), status.error());
        for (auto& mutation : *all) mutation = self->guarded(std::move(mutation));
        return self->folder.committer->submitAll(kj::mv(ticket), std::move(*all), std::move(run));
      });
}

Status View::prepareQuotas(const Mutations& mutations) const {
  int64_t growth = 0;
  for (auto& mutation : mutations) growth = saturatingSum(growth, std::max<int64_t>(mutation->growth(*tree), 0));
  for (auto& quota : quotas) {
    Status known = quota.prepare(uint64_t(growth));
    if (!known.ok()) return known;
  }
  return okStatus();
}

Status View::mayGrow(uint64_t bytes) const {
  for (auto& quota : quotas) {
    Status fits = quota.prepare(bytes);
    if (fits.ok()) fits = quota.check(saturatingSigned(bytes));
    if (!fits.ok()) return fits;
  }
  return okStatus();
}

Status View::mayHold(uint64_t bytes) const {
  for (auto& quota : quotas) {
    Status fits = quota.checkAlone(bytes);
    if (!fits.ok()) return fits;
  }
  return okStatus();
}

kj::Maybe<kj::Promise<void>> View::whenMeasured(const Error& error) const {
  if (Trash::isBeingLookedAt(error)) {
    auto paf = kj::newPromiseAndCrossThreadFulfiller<void>();
    auto looked = std::make_shared<kj::Own<kj::CrossThreadPromiseFulfiller<void>>>(kj::mv(paf.fulfiller));
    folder.trash->whenLooked([looked]() { (*looked)->fulfill(); });
    return kj::mv(paf.promise);
  }
  if (!storage::isBeingMeasured(error)) return nullptr;
  kj::Vector<kj::Promise<void>> all;
  for (auto& quota : quotas) all.add(quota.whenMeasured());
  return kj::joinPromises(all.releaseAsArray());
}

Result<std::shared_ptr<Run>> View::begin(std::string id, std::string label, std::string client) const {
  std::vector<storage::TrashBound> bounds;
  for (auto& quota : quotas) {
    auto bound = quota.ofTrash();
    if (!bound.ok()) return bound.error();
    bounds.push_back(std::move(*bound));
  }
  return folder.trash->begin(std::move(id), std::move(label), std::move(client), scope, std::move(bounds));
}

Result<std::shared_ptr<Run>> View::runOf(const std::string& id, const std::string& client) const {
  if (id.empty()) return std::shared_ptr<Run>();
  return begin(id, {}, client);
}

Result<std::vector<RunInfo>> View::runs() const { return folder.trash->runs(scope); }

Result<Trash::Page> View::listTrash(const std::string& run, const std::string& path, const std::string& cursor,
                                    size_t max) const {
  return folder.trash->list(run, path, cursor, max, scope);
}

Result<Mutations> View::undo(const std::string& run, std::shared_ptr<Run> under) const {
  return folder.trash->undo(run, std::move(under), scope);
}

Result<std::unique_ptr<Mutation>> View::restore(const std::string& run, const std::string& path,
                                                const std::string& to) const {
  return folder.trash->restore(run, path, to, scope);
}

Result<uint64_t> View::emptyTrash(uint64_t olderThan) const { return folder.trash->empty(olderThan); }

}  // namespace capstan::server::files
