#include <capstan/server/server-state.h>

#include <unistd.h>

#include <cstdio>
#include <cstring>

#include <capnp/message.h>

#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/program-version.h>

namespace capstan::server {

namespace {

uint64_t residentMemory() {
  uint64_t size = 0, resident = 0;
  if (FILE* file = fopen("/proc/self/statm", "re")) {
    if (fscanf(file, "%lu %lu", &size, &resident) != 2) resident = 0;
    fclose(file);
  }
  return resident * uint64_t(sysconf(_SC_PAGESIZE));
}

void add(ConnectionRegistry::Totals& to, const rpc::WireCounters& counters) {
  to.bytesReceived += counters.bytesReceived.load(std::memory_order_relaxed);
  to.bytesSent += counters.bytesSent.load(std::memory_order_relaxed);
  to.messagesReceived += counters.messagesReceived.load(std::memory_order_relaxed);
}

void fillHeld(schema::Status::Builder status, const Meter& meter) {
  status.setUploads(uint32_t(meter.used(Resource::UPLOADS)));
  status.setDownloads(uint32_t(meter.used(Resource::STREAMS)));
  status.setOpenFiles(uint32_t(meter.used(Resource::FILES)));
  status.setSubscriptions(uint32_t(meter.used(Resource::SUBSCRIPTIONS)));
}

void fillLimits(schema::Status::Builder status, const Limits& limits, const Metering::Figures& figures) {
  auto list = status.initLimits(unsigned(LIMITS));
  for (const LimitRow& row : limitTable()) {
    size_t i = size_t(row.limit);
    auto limit = list[unsigned(i)];
    limit.setName(row.name);
    limit.setScope(schema::LimitStatus::Scope(row.scope));
    limit.setUnit(schema::LimitStatus::Unit(row.unit));
    limit.setValue(limits[row.limit]);
    limit.setUsed(figures[i].used);
    limit.setRefused(figures[i].refused);
  }
}

}  // namespace

compute::ComputeLimits computeLimits(const Limits& limits) {
  compute::ComputeLimits result;
  result.valueBytes = limits[Limit::CONNECTION_VALUE_BYTES];
  result.jobsRunning = uint32_t(limits[Limit::GRANT_JOBS_RUNNING]);
  result.jobsQueued = uint32_t(limits[Limit::GRANT_JOBS_QUEUED]);
  result.jobsKept = uint32_t(limits[Limit::GRANT_JOBS_KEPT]);
  result.jobResultBytes = limits[Limit::GRANT_JOB_RESULT_BYTES];
  result.jobResultTime = limits[Limit::GRANT_JOB_RESULT_TIME];
  return result;
}

ConnectionRegistry::Entry::Entry(ConnectionRegistry& registry) : registry(registry) {
  registry.state.lockExclusive()->live.insert(this);
  registry.openNow.fetch_add(1, std::memory_order_relaxed);
  registry.acceptedEver.fetch_add(1, std::memory_order_relaxed);
}

ConnectionRegistry::Entry::~Entry() {
  auto locked = registry.state.lockExclusive();
  locked->live.erase(this);
  add(locked->finished, counters);
  registry.openNow.fetch_sub(1, std::memory_order_relaxed);
}

ConnectionRegistry::Totals ConnectionRegistry::totals() const {
  auto locked = state.lockShared();
  Totals result = locked->finished;
  for (const Entry* entry : locked->live) add(result, entry->counters);
  return result;
}

kj::Promise<void> ServerState::endAllUnder(std::vector<std::shared_ptr<Grant>> ended) {
  kj::Vector<kj::Promise<void>> all;
  all.add(cutAllUnder(std::move(ended)));
  all.add(folder->whenApplied());
  return kj::joinPromises(all.releaseAsArray());
}

kj::Promise<void> ServerState::cutAllUnder(std::vector<std::shared_ptr<Grant>> ended) {
  computing->endJobs();
  std::set<std::string, std::less<>> ids;
  for (auto& grant : ended) ids.insert(grant->id);
  auto cut = leases.cut(std::move(ended));
  folder->forgetLeftovers([ids = std::move(ids)](std::string_view id) { return ids.contains(id); });
  return cut;
}

uint64_t ServerState::mostConnections(schema::Authentication authentication) const {
  uint64_t reserved = authentication == schema::Authentication::SAME_USER ? OWNERS_PLACES : 0;
  return options.limits[Limit::SERVER_CONNECTIONS] + reserved;
}

ServerState::Place ServerState::takePlace(schema::Authentication authentication) {
  uint32_t before = loggedIn.fetch_add(1, std::memory_order_relaxed);
  Place place(&loggedIn);
  if (before >= mostConnections(authentication)) {
    metering.countRefusal(Limit::SERVER_CONNECTIONS);
    place = nullptr;
  }
  return place;
}

GrantsHost::Contact ServerState::contact() {
  Contact result;
  result.addresses = givenAddresses;
  if (auto identity = tls.current()) result.certificate = identity->certificate;
  return result;
}

void fillServerInfo(schema::ServerInfo::Builder info, const ServerState& state, schema::Authentication authentication) {
  info.setName("capstan");
  info.setVersion(CAPSTAN_VERSION);
  info.setProtocolVersion(schema::PROTOCOL_VERSION);
  info.setOldestProtocolVersion(1);
  info.setProcessId(uint32_t(getpid()));
  info.setUptime(state.uptime());
  info.setAuthentication(authentication);
  info.setHost(state.hostName.c_str());
  auto limits = info.initLimits();
  limits.setPath(MAX_PATH_BYTES);
  const Limits& set = state.options.limits;
  limits.setMessage(set[Limit::CONNECTION_MESSAGE]);
  limits.setRead(files::MAX_READ_BYTES);
  limits.setPut(files::MAX_PUT_BYTES);
  limits.setListEntries(uint32_t(set[Limit::CONNECTION_LIST_ENTRIES]));
  limits.setOpenFiles(uint32_t(set[Limit::CONNECTION_FILES]));
  limits.setUploads(uint32_t(set[Limit::CONNECTION_UPLOADS]));
  limits.setSubscriptions(uint32_t(set[Limit::CONNECTION_SUBSCRIPTIONS]));
  limits.setConnections(uint32_t(set[Limit::SERVER_CONNECTIONS]));
  limits.setResumeTime(files::FolderOptions().resumeTime);
  limits.setWriteChunk(files::STREAM_CHUNK_BYTES);
  limits.setBatchOperations(files::MAX_BATCH_OPERATIONS);
  limits.setBatches(uint32_t(set[Limit::CONNECTION_BATCHES]));
  limits.setBatchBytes(set[Limit::CONNECTION_BATCH_BYTES]);
  limits.setBatchStagedBytes(set[Limit::CONNECTION_BATCH_STAGED_BYTES]);
  limits.setTrashTime(storage::TrashLimits().time);
  compute::ComputeLimits compute = computeLimits(set);
  limits.setValues(uint32_t(set[Limit::CONNECTION_VALUES]));
  limits.setValueBytes(compute.valueBytes);
  limits.setSortMemory(compute.sortMemory);
  limits.setJobsRunning(compute.jobsRunning);
  limits.setJobsQueued(compute.jobsQueued);
  limits.setJobsKept(compute.jobsKept);
  limits.setJobResultBytes(compute.jobResultBytes);
  limits.setJobResultTime(compute.jobResultTime);
}

void prepareInfo(ServerState& state) {
  auto copied = [](schema::ServerInfo::Reader info) {
    auto words = kj::heapArray<capnp::word>(info.totalSize().wordCount + 1);
    memset(words.begin(), 0, words.asBytes().size());
    capnp::copyToUnchecked(info, words);
    return words;
  };
  for (size_t i = 0; i < AUTHENTICATIONS; ++i) {
    capnp::MallocMessageBuilder message;
    auto info = message.initRoot<schema::ServerInfo>();
    fillServerInfo(info, state, schema::Authentication(i));
    state.preparedInfo[i] = copied(info);
  }
  capnp::MallocMessageBuilder message;
  auto info = message.initRoot<schema::ServerInfo>();
  fillServerInfo(info, state, schema::Authentication::TOKEN);
  info.setProcessId(0);
  info.setUptime(0);
  info.disownHost();
  state.infoForStrangers = copied(info);
}

const kj::Array<capnp::word>& preparedInfo(const ServerState& state, schema::Authentication authentication,
                                           bool isStranger) {
  return isStranger ? state.infoForStrangers : state.preparedInfo[size_t(authentication)];
}

schema::ServerInfo::Reader readPrepared(const kj::Array<capnp::word>& words) {
  // Unchecked: it is ours, and a reader that counts what is read could not be shared by threads.
  return capnp::readMessageUnchecked<schema::ServerInfo>(words.begin());
}

void fillStatus(schema::Status::Builder status, const ServerState& state, schema::Authentication authentication) {
  fillServerInfo(status.initInfo(), state, authentication);
  status.setConnections(state.registry.open());
  status.setConnectionsAccepted(state.registry.accepted());
  status.setSessions(state.sessions.load());
  fillHeld(status, state.metering.server());
  auto wire = state.registry.totals();
  status.setBytesReceived(wire.bytesReceived);
  status.setBytesSent(wire.bytesSent);
  status.setCalls(wire.messagesReceived);

  files::FolderFigures figures = state.folder->figures();
  status.setCommits(figures.commits);
  status.setFlushes(figures.flushes);
  status.setTrashBytes(figures.trashBytes);
  auto watch = status.initWatch();
  watch.setMethod(schema::WatchMeans::Method(figures.watch.method));
  watch.setInterval(figures.watch.interval);
  watch.setPartly(figures.watch.partly);
  auto cache = status.initCache();
  cache.setBytes(figures.cache.bytes);
  cache.setLimit(figures.cache.limit);
  cache.setEntries(figures.cache.entries);
  cache.setHits(figures.cache.hits);
  cache.setMisses(figures.cache.misses);
  cache.setEvictions(figures.cache.evictions);
  cache.setPolicy(schema::CachePolicy(figures.cache.policy));

  auto computing = state.computing->figures();
  status.setJobs(computing.jobs);
  status.setComputations(computing.computations);
  status.setValues(computing.values);
  status.setValueBytes(computing.valueBytes);

  status.setResidentMemory(residentMemory());
  status.setThreads(state.threads);
  auto listeners = status.initListeners(unsigned(state.addresses.size()));
  for (unsigned i = 0; i < listeners.size(); ++i) listeners.set(i, state.addresses[i].toString().c_str());
  status.setRoot(escapeForTerminal(state.options.root).c_str());
  status.setFailedLogins(state.throttle.failures());

  auto limits = state.metering.figures();
  limits[size_t(Limit::SERVER_CONNECTIONS)].used = state.loggedIn;
  limits[size_t(Limit::SERVER_NEWCOMERS)].used = state.newcomers.count();
  limits[size_t(Limit::SERVER_NETWORK_NEWCOMERS)].used = state.newcomers.mostOfOne();
  fillLimits(status, state.metering.limits, limits);
}

void fillShareStatus(schema::Status::Builder status, const ServerState& state, schema::Authentication authentication,
                     const Access& access) {
  fillServerInfo(status.initInfo(), state, authentication);
  status.setConnections(state.leases.count(access.grant().id));
  fillLimits(status, state.metering.limits, state.metering.figuresOf(access.lease->meters));
  fillHeld(status, *access.lease->connection->meter);
}

}  // namespace capstan::server
