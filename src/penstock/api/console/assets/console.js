// The scripts of the console, each with one thing to do. Without them its pages show all that they have, and act not.
import { startActs } from "./acts.js";
import { startCharts } from "./charts.js";
import { startChosen } from "./chosen.js";
import { startComparing } from "./compare.js";
import { startCopying } from "./copy.js";
import { startDrops } from "./drop.js";
import { startFilters } from "./filters.js";
import { startKeys } from "./keys.js";
import { startLive } from "./live.js";
import { startRequests } from "./requests.js";
import { startSecrets } from "./secrets.js";
import { startStages } from "./stages.js";
import { startTheme } from "./theme.js";

startTheme();
startKeys();
startActs();
startCharts();
startChosen();
startComparing();
startCopying();
startFilters();
startLive();
startDrops();
startRequests();
startSecrets();
startStages();
