#include <capstan/sync/plan.h>
