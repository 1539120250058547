/** What the page does beyond links and forms: it shows what changes, without being loaded again. */

import { keepFresh } from "./fresh.js";
import { show } from "./job.js";

const article = document.getElementById("job");
if (article !== null) show(article);
if (document.querySelector("[data-live]") !== null) keepFresh();
